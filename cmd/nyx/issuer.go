package main

import (
	"errors"
	"net/http"
	"time"

	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/engine/oidc"
	"github.com/nyxnet/nyx/internal/setup"
)

// identifying has the issuer of a control process know by identity providers who asks,
// if its configuration says so.
func identifying(cfg *daemon.ControlConfig) error {
	if cfg.Issuer == nil || cfg.Plane.Passes.To != setup.PassesOIDC {
		return nil
	}
	v, err := openIssuers(cfg.Plane.Issuers)
	if err != nil {
		return err
	}
	cfg.Issuer.Identify = identifyBy(v)
	return nil
}

var (
	errNoBearer = errors.New("show a token of your identity provider (Authorization: Bearer), as with nyx token get --oidc-token FILE")
	errBound    = errors.New("the token is bound to a certificate; get one that is not")
)

// identifyBy knows people by tokens of their identity provider.
func identifyBy(v *oidc.Verifier) daemon.Identify {
	return func(r *http.Request, _ []byte) (string, error) {
		raw, ok := daemon.BearerOf(r)
		if !ok {
			return "", errNoBearer
		}
		t, err := v.Verify(r.Context(), raw, time.Now())
		if err != nil {
			return "", err
		}
		if t.Bound != "" {
			return "", errBound
		}
		return t.Issuer + "\n" + t.Subject, nil
	}
}
