package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/netutil"
	"golang.org/x/time/rate"

	"dsvault/rbac"
	"dsvault/vault/api"
	"dsvault/vault/fault"
	"dsvault/vault/metrics"
	"dsvault/vault/tracing"
)

// drainTime is how long running requests may go on after the signal to stop.
const drainTime = 10 * time.Second

// drainDelay is time for a load balancer to ask /readyz twice or thrice.
const drainDelay = 3 * time.Second

// maxConnections is how many connections are open at a time; others wait. An idle
// one is closed after two minutes.
const maxConnections = 4096

// serveConfig is what `serve` is told.
type serveConfig struct {
	nodeConfig
	Listen         string // HOST:PORT; port 0 picks a free one
	Metrics        string // HOST:PORT for Prometheus; empty: none
	Traces         string // URL of a collector; empty: as OTEL_EXPORTER_OTLP_ENDPOINT says
	TracesFromEnv  bool   // that names one
	Pprof          string // IP:PORT for profiles, of this machine; empty: none
	Cert, Key      string // PEM files; both or none
	BehindTLSProxy bool
	TrustedProxies []netip.Prefix // none: with BehindTLSProxy those on this machine

	Courier courierSettings

	// See api.Options.
	MaxRequests, MaxTransfers, MaxTransfersEach int

	// DrainDelay is how long the node goes on as before after the signal to stop,
	// while /readyz says no, so that a load balancer sends nobody any more.
	DrainDelay time.Duration
}

func (a *app) serveCmd() *cobra.Command {
	var cfg serveConfig
	var passphraseFile, checkEvery, checkDataEvery, backupWindow, reviews, reviewDeadline string
	var proxies []string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the vault over HTTP",
		Long: `Serves the vault in the data folder until Ctrl-C or SIGTERM; then running
requests have ten seconds to end. A line on stdout says when it is ready.
With PostgreSQL, where other nodes can go on, /readyz first says no for the
--drain-delay, while requests are answered as before; a second signal ends
the program at once.

Plain HTTP is for loopback addresses only. On any other, give --tls-cert and
--tls-key, or say --behind-tls-proxy if a proxy in front of it ends TLS.

SIGHUP reads the folder of --policies again. A policy that does not parse or
breaks its truth table is refused, and the old one stays in force.`,
		Example: `  dsvault serve
  dsvault serve --listen 0.0.0.0:8200 --tls-cert cert.pem --tls-key key.pem
  dsvault serve --objects 's3://vault?endpoint=https://s3.example.org'`,
		Args: args(0, 0),
	}
	a.storeFlags(cmd, &cfg.nodeConfig)
	a.regionFlags(cmd, &cfg.nodeConfig)
	a.logSettingFlags(cmd, &cfg.Log)
	cfg.Courier.flags(cmd.Flags())
	f := cmd.Flags()
	f.StringVar(&cfg.Listen, "listen", "127.0.0.1:8200", "address to listen on; port 0 picks a free one")
	f.StringVar(&cfg.Metrics, "metrics", "", "address to show metrics for Prometheus on, for example 127.0.0.1:9200 (default: nowhere)")
	f.StringVar(&cfg.Traces, "traces", "", "URL of an OpenTelemetry collector to send traces to, for example http://127.0.0.1:4318 (default: as OTEL_EXPORTER_OTLP_ENDPOINT says, or none)")
	f.StringVar(&cfg.Pprof, "pprof", "", "loopback address to show Go profiles on, for example 127.0.0.1:6060 (default: nowhere)")
	f.StringVar(&cfg.Cert, "tls-cert", "", "PEM file with the certificate chain")
	f.StringVar(&cfg.Key, "tls-key", "", "PEM file with its key")
	f.BoolVar(&cfg.BehindTLSProxy, "behind-tls-proxy", false, "a proxy in front ends TLS and sets X-Forwarded-For")
	f.StringSliceVar(&proxies, "trusted-proxies", nil, "addresses or networks of the proxies whose X-Forwarded-For is believed (default, with --behind-tls-proxy: this machine)")
	f.StringVar(&cfg.Policies, "policies", "", "folder with model.conf, policy.csv and truth.csv (default: the built-in policy)")
	f.DurationVar(&cfg.DrainDelay, "drain-delay", drainDelay, "after the signal to stop, how long to go on while /readyz says no, with a PostgreSQL catalog")
	f.IntVar(&cfg.MaxRequests, "max-requests", 1000, "requests a second of one person or service; four times as many in a burst")
	f.IntVar(&cfg.MaxTransfers, "max-transfers", 256, "shards and files on their way at once")
	f.IntVar(&cfg.MaxTransfersEach, "max-transfers-each", 16, "likewise, of one person or service")
	f.StringVar(&reviews, "reviews", "never", "quarterly, to begin an access review of each client with every quarter, by UTC; or never")
	f.StringVar(&reviewDeadline, "review-deadline", "30d", "when access ends that nobody has decided on in such a review")
	f.StringVar(&checkEvery, "check-every", "24h", "how often storage is compared with the catalog; or never")
	f.StringVar(&checkDataEvery, "check-data-every", "never", "how often every object is read for it as well, such as 30d; or never")
	f.StringVar(&backupWindow, "backup-window", "30d", "how old a backup may be that is still restored: so long after an erasure it is final; or none")
	f.StringVar(&passphraseFile, "passphrase-file", "", "file whose first line is the root key's passphrase")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if cfg.Data, err = a.dataDir(); err != nil {
			return err
		}
		if cfg.TrustedProxies, err = parseProxies(proxies); err != nil {
			return err
		}
		if err := cfg.check(); err != nil {
			return err
		}
		if cfg.Reviews, err = parseReviews(reviews, reviewDeadline); err != nil {
			return err
		}
		if cfg.CheckEvery, err = parseEvery("check-every", checkEvery); err != nil {
			return err
		}
		if cfg.CheckDataEvery, err = parseEvery("check-data-every", checkDataEvery); err != nil {
			return err
		}
		if cfg.BackupWindow, err = parseWindow(backupWindow); err != nil {
			return err
		}
		cfg.TracesFromEnv = a.env("OTEL_SDK_DISABLED") != "true" && (a.env("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || a.env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "")
		cfg.Logger = a.logger()
		if err := cfg.openCourier(a.env("DSVAULT_SMTP_PASSWORD")); err != nil {
			return err
		}
		if err := a.rootPassphrase(&cfg.nodeConfig, passphraseFile); err != nil {
			return err
		}
		return serve(cmd.Context(), cfg, a.announce)
	}
	return cmd
}

// regionFlags are the stores beside the one without a name.
func (a *app) regionFlags(cmd *cobra.Command, cfg *nodeConfig) {
	cmd.Flags().StringArrayVar(&cfg.Stores, "store", nil, "REGION=dir:PATH or REGION=s3://BUCKET?endpoint=…: where the data of projects of this region is kept, and nowhere else; may be given again")
}

func parseProxies(list []string) (networks []netip.Prefix, err error) {
	for _, s := range list {
		p, err := rbac.ParseNetwork(s)
		if err != nil {
			return nil, usage("bad --trusted-proxies "+strconv.QuoteToASCII(clip(s)), "give addresses or networks, for example 10.0.0.2,192.0.2.0/24")
		}
		networks = append(networks, p)
	}
	return networks, nil
}

// logger writes to stderr, as JSON with --json.
func (a *app) logger() *slog.Logger {
	if a.json {
		return slog.New(api.LogRequests(slog.NewJSONHandler(a.err, nil)))
	}
	return slog.New(api.LogRequests(slog.NewTextHandler(a.err, nil)))
}

// announce says that the server is ready.
func (a *app) announce(url string) error {
	return a.result(struct {
		Listening string `json:"listening"`
	}{url}, "dsvault: listening on %s", url)
}

// check refuses settings that would send tokens in clear over a network.
func (c serveConfig) check() error {
	const op = "dsvault.serve"
	if err := c.checkMetrics(); err != nil {
		return err
	}
	if err := c.checkPprof(); err != nil {
		return err
	}
	if c.Traces != "" {
		if err := tracing.CheckURL(c.Traces); err != nil {
			return err
		}
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fault.Wrap(fault.Invalid, op, "bad --listen address", err).WithHint("give HOST:PORT, for example 127.0.0.1:8200")
	}
	if (c.Cert == "") != (c.Key == "") {
		return usage("--tls-cert and --tls-key belong together", "give both")
	}
	if c.DrainDelay < 0 || c.DrainDelay > time.Hour {
		return usage("bad --drain-delay", "give a duration up to 1h, for example 5s")
	}
	if c.MaxRequests < 1 || c.MaxTransfers < 1 || c.MaxTransfersEach < 1 {
		return usage("a limit of nothing", "give --max-requests, --max-transfers and --max-transfers-each as numbers from 1 on")
	}
	ip, err := netip.ParseAddr(host)
	loopback := host == "localhost" || err == nil && ip.IsLoopback()
	if !loopback && c.Cert == "" && !c.BehindTLSProxy {
		return usage("plain HTTP on "+c.Listen+" would send tokens in clear over the network",
			"give --tls-cert and --tls-key, or say --behind-tls-proxy if a proxy in front ends TLS")
	}
	return nil
}

// certificates reads the TLS certificate; there is none without TLS.
func (c serveConfig) certificates() ([]tls.Certificate, error) {
	if c.Cert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "dsvault.serve", "cannot use the TLS certificate", err).
			WithHint("check --tls-cert and --tls-key")
	}
	return []tls.Certificate{pair}, nil
}

// listen opens the address, for TLS if there are certificates, and gives its URL.
func listen(ctx context.Context, address string, certificates []tls.Certificate) (net.Listener, string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, "", fault.Wrap(fault.Unavailable, "dsvault.serve", "cannot listen on "+address, err).
			WithHint("is another server running there? choose another --listen address")
	}
	listener = netutil.LimitListener(listener, maxConnections)
	if certificates == nil {
		return listener, "http://" + listener.Addr().String(), nil
	}
	config := &tls.Config{Certificates: certificates, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	return tls.NewListener(listener, config), "https://" + listener.Addr().String(), nil
}

// serve runs the vault until ctx ends, and then ends it cleanly. ready hears
// the URL once requests are answered.
func serve(ctx context.Context, cfg serveConfig, ready func(url string) error) (err error) {
	const op = "dsvault.serve"
	// From the first moment: without it the signal would end the process.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	certificates, err := cfg.certificates()
	if err != nil {
		return err
	}
	cfg.Counts = metrics.New(versionText())
	stopMetrics, err := serveMetrics(ctx, cfg, cfg.Counts)
	if err != nil {
		return err
	}
	defer stopMetrics()
	stopPprof, err := servePprof(ctx, cfg)
	if err != nil {
		return err
	}
	defer stopPprof()
	tracer, stopTraces, err := cfg.openTraces(ctx)
	if err != nil {
		return err
	}
	defer stopTraces()
	n, err := openNode(ctx, cfg.nodeConfig)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	listener, url, err := listen(ctx, cfg.Listen, certificates)
	if err != nil {
		return err
	}
	stopping := make(chan struct{})
	handler := api.New(n.Vault, api.Options{
		Stopping: stopping, Tracer: tracer,
		Logger: cfg.Logger, Now: now, Random: rand.Reader, TrustProxy: cfg.BehindTLSProxy, TrustedProxies: cfg.TrustedProxies, Meter: cfg.Counts,
		Requests: rate.Limit(cfg.MaxRequests), Streams: cfg.MaxTransfers, StreamsEach: cfg.MaxTransfersEach,
	})
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	server := api.Server(requests, handler, cfg.Logger)
	reloading, stopReloading := context.WithCancel(ctx)
	reloaded := make(chan struct{})
	go func() {
		defer close(reloaded)
		n.reloadPolicies(reloading, cfg.nodeConfig, hup)
	}()
	defer func() { stopReloading(); <-reloaded }()

	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	if err := ready(url); err != nil {
		server.Close()
		<-served
		return err
	}
	select {
	case err = <-served:
	case <-ctx.Done():
		close(stopping)
		if cfg.DrainDelay > 0 && !cfg.embedded() { // without other nodes nobody could take over
			cfg.Logger.Info("stopping: not ready any more; requests are answered meanwhile", "for", cfg.DrainDelay)
			select {
			case <-time.After(cfg.DrainDelay):
			case err = <-served:
				return fault.Wrap(fault.Unavailable, op, "the server ended", err)
			}
		}
		err = drain(ctx, server, cut)
		<-served
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fault.Wrap(fault.Unavailable, op, "the server ended", err)
	}
	return nil
}

// drain lets running requests end; those that take too long are cut off, which
// the log shows as what it is.
func drain(ctx context.Context, server *http.Server, cut context.CancelFunc) error {
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err := server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		cut()
		err = server.Close()
	}
	return err
}

// reloadPolicies reads the policy folder again at every signal from hup.
func (n *node) reloadPolicies(ctx context.Context, cfg nodeConfig, hup <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		var policy *rbac.Policy
		policy, err := cfg.policy()
		if err == nil {
			err = n.LoadPolicy(ctx, policy)
		}
		if err != nil {
			cfg.Logger.Error("policy refused; the old one stays in force", "err", err)
			continue
		}
		cfg.Logger.Info("policy in force", "hash", fmt.Sprintf("%x", policy.Hash()))
	}
}
