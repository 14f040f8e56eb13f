package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"dsvault/vault/fault"
)

const healthTimeout = 5 * time.Second

// healthcheckCmd asks the server on this machine whether it is alive. It takes
// the settings of serve, so that a container's health check needs none.
func (a *app) healthcheckCmd() *cobra.Command {
	var cfg serveConfig
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the server on this machine whether it is alive",
		Long: `Asks the server that listens at --listen on this machine for /healthz. With
--tls-cert the server has to show exactly that certificate.`,
		Example: `  dsvault healthcheck
  DSVAULT_LISTEN=0.0.0.0:8200 dsvault healthcheck`,
		Args: args(0, 0),
	}
	cmd.Flags().StringVar(&cfg.Listen, "listen", "127.0.0.1:8200", "the address that serve listens on")
	cmd.Flags().StringVar(&cfg.Cert, "tls-cert", "", "the certificate file that serve uses")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		url, err := cfg.checkHealth(cmd.Context())
		if err != nil {
			return err
		}
		return a.result(struct {
			Healthy string `json:"healthy"`
		}{url}, "%s is alive", url)
	}
	return cmd
}

// checkHealth gives the URL that it has asked.
func (c serveConfig) checkHealth(ctx context.Context) (string, error) {
	const op = "dsvault.healthcheck"
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, op, "bad --listen address", err).WithHint("give HOST:PORT, for example 127.0.0.1:8200")
	}
	switch ip, err := netip.ParseAddr(host); {
	case host == "", err == nil && ip.IsUnspecified() && ip.Is4():
		host = "127.0.0.1"
	case err == nil && ip.IsUnspecified():
		host = "::1"
	}
	transport := &http.Transport{DisableKeepAlives: true}
	url := "http://" + net.JoinHostPort(host, port) + "/healthz"
	if c.Cert != "" {
		if transport.TLSClientConfig, err = pinned(c.Cert); err != nil {
			return "", err
		}
		url = "https" + url[len("http"):]
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, op, "bad --listen address", err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, op, "the server does not answer", err).WithHint("is `dsvault serve` running, with this --listen?")
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
	if resp.StatusCode != http.StatusOK {
		return "", fault.New(fault.Unavailable, op, "the server answers "+resp.Status).WithHint("look at the server's log")
	}
	return url, nil
}

// pinned trusts the first certificate of a PEM file and no other, whatever
// names are in it: it was issued for the outside, not for this address.
func pinned(path string) (*tls.Config, error) {
	const op = "dsvault.healthcheck"
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, op, "cannot read the certificate", err).WithHint("check --tls-cert")
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fault.New(fault.Invalid, op, "the file holds no certificate").WithHint("check --tls-cert")
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // the names; the certificate itself is compared below
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			if len(raw) == 0 || !bytes.Equal(raw[0], block.Bytes) {
				return errors.New("the server shows another certificate")
			}
			return nil
		},
	}, nil
}
