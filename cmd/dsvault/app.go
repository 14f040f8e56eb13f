package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// app is one run of the command line. Everything that it takes from its
// surroundings is here, so that the demo can run commands as several people.
type app struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) string

	json       bool
	data       string
	allowPlain bool
}

// run executes one command and gives the exit status.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	a.json = slices.Contains(args, "--json") // also for errors in the flags themselves
	started := false
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := a.bindEnv(cmd); err != nil {
			return err
		}
		if err := cmd.ValidateRequiredFlags(); err != nil { // cobra does it too late to tell it from a failure
			return usage(err.Error(), "run `"+cmd.CommandPath()+" --help`")
		}
		started = true
		return nil
	}
	err := root.ExecuteContext(ctx)
	var known *fault.Error
	var refused refusedError
	if err != nil && !started && !errors.As(err, &known) && !errors.As(err, &refused) {
		err = usage(err.Error(), "run `dsvault --help`") // what cobra found wrong
	}
	if err != nil {
		a.printError(err)
	}
	return exitStatus(err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "dsvault",
		Short: "A vault for the datasets that clients hand to a labelling agency",
		Long: `dsvault keeps datasets sealed, gives each shard to the people it was assigned
to and to nobody else, and records every read in a log that anyone who may
see it can verify.

Every flag can also be given as an environment variable: --shard-size is
DSVAULT_SHARD_SIZE. The flag wins. DSVAULT_CONFIG names the folder of your
login, DSVAULT_URL another server than the one you logged in to first,
DSVAULT_TOKEN a token to use instead of the stored one.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          needsCommand,
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetIn(a.in)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpTemplate(root.HelpTemplate() + exitHelp())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(err.Error(), "run `"+cmd.CommandPath()+" --help`")
	})
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", a.json, "print one JSON document, or a line of JSON for each item; errors as problem JSON")
	flags.StringVar(&a.data, "data", "", "data folder of the server (default: dsvault in the user's data folder)")
	flags.BoolVar(&a.allowPlain, "allow-plain-http", false, "allow http:// to another machine, which sends your token in clear")
	root.AddCommand(
		a.initCmd(), a.serveCmd(), a.recoverCmd(), a.logKeyCmd(), a.rootKeyCmd(), a.backupCmd(), a.restoreCmd(), a.migrateCmd(), a.storageCmd(), a.doctorCmd(), a.demoCmd(),
		a.loginCmd(), a.whoamiCmd(), a.clientCmd(), a.projectCmd(), a.conditionsCmd(), a.personCmd(), a.tokenCmd(), a.agreementCmd(),
		a.resetCmd(), a.noticesCmd(),
		a.subjectCmd(), a.consentCmd(), a.requestCmd(),
		a.grantCmd(), a.revokeCmd(), a.rolesCmd(),
		a.pushCmd(), a.assignCmd(), a.unassignCmd(), a.assignmentsCmd(), a.lsCmd(), a.pullCmd(), a.catCmd(), a.linkCmd(),
		a.approvalsCmd(), a.approveCmd(), a.refuseCmd(), a.breakGlassCmd(), a.discloseCmd(),
		a.claimCmd(), a.submitCmd(), a.workCmd(), a.resultsCmd(),
		a.canCmd(), a.logCmd(), a.transfersCmd(), a.auditCmd(), a.reviewCmd(), a.checkCmd(), a.healthcheckCmd(), a.versionCmd(),
		a.verifyCmd(), a.receiptCmd(),
		a.holdCmd(), a.eraseCmd(), a.erasureCmd(), a.retentionCmd(),
	)
	return root
}

// needsCommand is what a command that only groups others does by itself.
func needsCommand(cmd *cobra.Command, _ []string) error {
	return usage("which command?", "run `"+cmd.CommandPath()+" --help`")
}

// group makes a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, RunE: needsCommand, Args: func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usage("unknown command "+clean(args[0]), "run `"+cmd.CommandPath()+" --help`")
		}
		return nil
	}}
	cmd.AddCommand(subs...)
	return cmd
}

// args wants exactly the arguments that the command's Use line names, of which
// the last ones may be optional.
func args(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return usage("usage: "+cmd.UseLine(), "run `"+cmd.CommandPath()+" --help`")
		}
		return nil
	}
}

func usage(message, hint string) error {
	return fault.New(fault.Invalid, "dsvault", message).WithHint(hint)
}

// notFromEnv are flags that a variable of the same name does not stand for:
// DSVAULT_PASSPHRASE is the passphrase itself.
var notFromEnv = []string{"help", "passphrase", "new-passphrase"}

// bindEnv sets every flag that was not given from its DSVAULT_… variable.
func (a *app) bindEnv(cmd *cobra.Command) error {
	var bad error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := envName(f.Name)
		value := a.env(name)
		if f.Changed || value == "" || bad != nil || slices.Contains(notFromEnv, f.Name) ||
			cmd.Name() == "demo" && f.Name == "data" { // a demo never touches the vault in use
			return
		}
		if err := cmd.Flags().Set(f.Name, value); err != nil {
			bad = usage(name+": "+err.Error(), "unset it, or give --"+f.Name)
		}
	})
	return bad
}

func envName(flag string) string {
	return "DSVAULT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// dataDir is the server's data folder.
func (a *app) dataDir() (string, error) {
	if a.data != "" {
		return a.data, nil
	}
	if base := a.env("XDG_DATA_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "dsvault"), nil
	}
	if home := a.env("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "share", "dsvault"), nil
	}
	return "", usage("there is no data folder for this user", "name one with --data DIR")
}

// session is a login in use.
type session struct {
	*client.Client
	place  *client.Place
	login  client.Login
	stored bool // the token is the stored one, not DSVAULT_TOKEN
}

// within connects, and has do act on the scope that args names, or else on the
// whole vault.
func (a *app) within(args []string, do func(s *session, scope dataset.Scope) error) error {
	scope, err := scopeArg(args)
	if err != nil {
		return err
	}
	s, err := a.connect()
	if err != nil {
		return err
	}
	return do(s, scope)
}

// about connects, and has do act on what an ID names.
func about[ID interface {
	~[16]byte
	Prefix() string
}](a *app, text string, do func(s *session, id ID) error) error {
	id, err := dataset.ParseID[ID](text)
	if err != nil {
		return err
	}
	s, err := a.connect()
	if err != nil {
		return err
	}
	return do(s, id)
}

// place finds the folder of the login that is meant, and the server's URL.
func (a *app) place() (*client.Place, string, error) {
	home, err := client.OpenHome(a.env("DSVAULT_CONFIG"))
	if err != nil {
		return nil, "", err
	}
	if url := a.env("DSVAULT_URL"); url != "" {
		// Whether plain http is allowed is known only once the login is.
		normal, err := client.ParseURL(url, true)
		if err != nil {
			return nil, "", err
		}
		place, err := home.Server(normal)
		return place, normal, err
	}
	return home.Current(), "", nil
}

// connect opens the login for a command.
func (a *app) connect() (*session, error) {
	place, url, err := a.place()
	if err != nil {
		return nil, err
	}
	s := &session{place: place}
	s.login, err = place.Login()
	token := a.env("DSVAULT_TOKEN")
	if err != nil && !(fault.Is(err, fault.NotFound) && url != "" && token != "") {
		return nil, notLoggedIn(err)
	}
	if url == "" {
		url = s.login.URL
	} else if s.login.URL != "" && s.login.URL != url { // two URLs that share a folder's name
		return nil, usage("the login in "+place.Dir()+" is for "+s.login.URL, "log in again, or use that URL")
	}
	cfg := client.Config{
		URL: url, AllowPlainHTTP: a.allowPlain || s.login.AllowPlainHTTP && s.login.URL == url,
		DeviceID: s.login.Device, UserAgent: userAgent(),
	}
	if token != "" {
		cfg.Token, err = client.ParseSecret(token)
	} else {
		s.stored = true
		cfg.Token, err = place.Token()
	}
	if err != nil {
		return nil, notLoggedIn(err)
	}
	if cfg.Device, err = place.Device(); err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	s.Client, err = client.New(cfg)
	return s, err
}

// notLoggedIn turns "no login here" into what it means for a command.
func notLoggedIn(err error) error {
	if fault.Is(err, fault.NotFound) {
		return fault.Wrap(fault.Unauthenticated, "dsvault", "you are not logged in", err).
			WithHint("run `dsvault login URL`, or set DSVAULT_URL and DSVAULT_TOKEN")
	}
	return err
}

// scopeArg reads an optional scope; the vault if there is none.
func scopeArg(args []string) (dataset.Scope, error) {
	if len(args) == 0 {
		return dataset.Root, nil
	}
	return dataset.ParseScope(strings.TrimSuffix(args[0], "/") + rootSlash(args[0]))
}

// datasetArg reads the scope of a dataset.
func datasetArg(s string) (dataset.Scope, error) {
	scope, err := dataset.ParseScope(s)
	if err == nil && scope.Depth() != 3 {
		err = usage(clean(s)+" is not a dataset", "name it CLIENT/PROJECT/DATASET, for example acme/signs/batch-1")
	}
	return scope, err
}

// rootSlash keeps the one slash that is a scope of its own.
func rootSlash(s string) string {
	if s == "/" {
		return "/"
	}
	return ""
}

// isTerminal reports whether a stream of this process is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

var now = time.Now
