package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

func (a *app) linkCmd() *cobra.Command {
	var span string
	req := wire.NewLink{}
	cmd := &cobra.Command{
		Use:   "link DATASET/NUMBER [PATH]",
		Short: "Make a short-lived link to a shard or a file in it, for curl, wget and browsers",
		Long: `Prints a URL that gives the shard, or the file at PATH in it, decrypted by the
server, without any other credential, as often as it is asked until the link ends. Whoever has the URL
reads in your name: each use is decided anew for you and recorded. The project
has to allow opened delivery. A link ends by itself after --for, or with
"link end", and when you rotate your token or your access ends.`,
		Example: `  curl -OJ "$(dsvault link acme/signs/batch-1/3)"
  dsvault link acme/signs/batch-1/3 images/00-stop.png --for 2h
  dsvault link list
  dsvault link end lnk_…`,
		Args: args(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := dataset.ParseShardRef(args[0])
			if err != nil {
				return err
			}
			req.Shard = ref.String()
			if len(args) == 2 {
				if req.Member = args[1]; req.Member == "" {
					return usage("an empty PATH", "leave PATH out for the whole shard")
				}
			}
			if req.Seconds, err = parseFor(span, wire.MaxLinkLife); err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			l, err := s.CreateLink(cmd.Context(), req)
			if err != nil {
				return err
			}
			url := s.LinkURL(l)
			if a.json {
				return writeJSON(a.out, struct {
					wire.Link
					URL string `json:"url"`
				}{l, url})
			}
			if _, err := fmt.Fprintln(a.out, clean(url)); err != nil {
				return err
			}
			if isTerminal(a.err) {
				fmt.Fprintf(a.err, "good until %s; whoever has it reads in your name; end it with `dsvault link end %s`\n", timeText(l.Until), l.ID)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&span, "for", "15m", "how long it lasts, at most 24h")
	cmd.Flags().StringVar(&req.Purpose, "purpose", "", "what the data is for, where a project has several purposes")
	cmd.AddCommand(a.linkListCmd(), a.linkEndCmd())
	return cmd
}

// parseFor reads how long something is to last, in seconds.
func parseFor(span string, most time.Duration) (int, error) {
	var start time.Time
	end, ok := shift(start, span, +1)
	if !ok || end.Sub(start) > most {
		return 0, usage("bad --for "+clip(span), fmt.Sprintf("give a span of at most %d hours, for example 15m or 2h", most/time.Hour))
	}
	return int(end.Sub(start) / time.Second), nil
}

func (a *app) linkListCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List your links that hold",
		Example: "  dsvault link list",
		Args:    args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.connect()
			if err != nil {
				return err
			}
			header := []string{"LINK", "SHARD", "FILE", "CREATED", "UNTIL"}
			return list(a, s.Links(cmd.Context()), header, func(l wire.Link) []string {
				return []string{l.ID.String(), l.Shard, l.Member, timeText(l.Created), timeText(l.Until)}
			})
		},
	}
}

func (a *app) linkEndCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "end LINK",
		Short:   "End a link before its time",
		Example: "  dsvault link end lnk_…",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return about(a, args[0], func(s *session, id dataset.LinkID) error {
				out, err := s.EndLink(cmd.Context(), id)
				if err != nil {
					return err
				}
				return a.result(out, "ended the link %s", id)
			})
		},
	}
}
