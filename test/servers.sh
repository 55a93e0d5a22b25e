#!/usr/bin/env bash
# Builds servers of others, against which some tests and scenarios run: from the module
# proxy, without cgo, each in a module of its own. Nothing of them enters go.mod, and
# without them these tests are skipped.
#
#   test/servers.sh             all
#   test/servers.sh versitygw   one of them
#
# versitygw is the Versity S3 Gateway (Apache-2.0). vault is HashiCorp Vault (BUSL-1.1;
# this is no production use): its core, HTTP API, file storage, AppRole and KV, in a
# program of their own, because the whole links the clients of all clouds. OpenBao would
# be the first choice; its module is not to be had from the proxy.
#
# otelcol is the OpenTelemetry Collector (Apache-2.0) by the recipe of deploy/otel. tempo
# and loki are Grafana's (AGPL-3.0: they are run beside Nyx as they are, and nothing of
# them is linked or passed on), from their own trees with the replacements that these
# have. Tempo is of 2022: later ones have no version by which the proxy gives them.
#
# They go to NYX_SERVERS, or to nyx-servers in the user's cache directory. One of the
# version that is wanted is kept.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
versitygw_version=v1.8.0
vault_version=v1.21.4 vault_sdk_version=v0.20.0
otelcol_recipe=$root/deploy/otel/builder.yaml
otelcol_version=v$(sed -n 's/^  version: //p' "$otelcol_recipe")-$(sha256sum "$otelcol_recipe" | cut -c 1-8)
tempo_version=v1.5.0
loki_version=v3.7.8 loki_push_version=v0.0.0-20260611205623-ac76b402773c

dir=${NYX_SERVERS:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/nyx-servers}
mkdir -p "$dir"
work=$(mktemp -d "${TMPDIR:-/tmp}/nyx-servers.XXXXXX")
trap 'rm -rf "$work"' EXIT
export CGO_ENABLED=0 GOWORK=off

build_versitygw() {
	GOBIN=$work go install "github.com/versity/versitygw/cmd/versitygw@$versitygw_version"
}

build_vault() {
	cat >"$work/go.mod" <<-END
		module vaultserver

		go 1.26

		require github.com/hashicorp/vault $vault_version

		// Vault builds with the SDK in its own tree, of which this is the like.
		replace github.com/hashicorp/vault/sdk => github.com/hashicorp/vault/sdk $vault_sdk_version
	END
	cat >"$work/main.go" <<-'END'
		package main

		import (
			"encoding/json"
			"fmt"
			"net"
			"net/http"
			"os"
			"strings"

			"github.com/hashicorp/go-hclog"
			kv "github.com/hashicorp/vault-plugin-secrets-kv"
			"github.com/hashicorp/vault/builtin/credential/approle"
			vaulthttp "github.com/hashicorp/vault/http"
			"github.com/hashicorp/vault/internalshared/configutil"
			"github.com/hashicorp/vault/sdk/helper/consts"
			"github.com/hashicorp/vault/sdk/logical"
			"github.com/hashicorp/vault/sdk/physical/file"
			"github.com/hashicorp/vault/vault"
		)

		// As the whole program: vault server -config=FILE, of which it takes the two places.
		func main() {
			var config struct {
				Storage  struct{ File map[string]string }
				Listener struct{ TCP struct{ Address string } }
			}
			text, err := os.ReadFile(strings.TrimPrefix(os.Args[2], "-config="))
			check(err)
			check(json.Unmarshal(text, &config))
			log := hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr})
			storage, err := file.NewFileBackend(config.Storage.File, log)
			check(err)
			core, err := vault.NewCore(&vault.CoreConfig{
				Physical: storage, Logger: log, DisableMlock: true,
				CredentialBackends: map[string]logical.Factory{"approle": approle.Factory},
				LogicalBackends:    map[string]logical.Factory{"kv": kv.Factory},
				BuiltinRegistry:    builtin{{consts.PluginTypeCredential, "approle"}: approle.Factory, {consts.PluginTypeSecrets, "kv"}: kv.Factory},
			})
			check(err)
			listener, err := net.Listen("tcp", config.Listener.TCP.Address)
			check(err)
			fmt.Println("==> Vault server started!")
			as := &configutil.Listener{Type: "tcp", MaxRequestDuration: vault.DefaultMaxRequestDuration, MaxRequestSize: vaulthttp.DefaultMaxRequestSize}
			check(http.Serve(listener, vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: as})))
		}

		// builtin are the engines that the program has.
		type builtin map[engine]logical.Factory

		type engine struct {
			of   consts.PluginType
			name string
		}

		func (b builtin) Contains(name string, of consts.PluginType) bool { return b[engine{of, name}] != nil }

		func (b builtin) Get(name string, of consts.PluginType) (func() (any, error), bool) {
			f := b[engine{of, name}]
			return func() (any, error) { return f, nil }, f != nil
		}

		func (b builtin) Keys(of consts.PluginType) (names []string) {
			for e := range b {
				if e.of == of {
					names = append(names, e.name)
				}
			}
			return names
		}

		func (b builtin) DeprecationStatus(name string, of consts.PluginType) (consts.DeprecationStatus, bool) {
			return consts.Supported, b.Contains(name, of)
		}

		func (b builtin) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }

		func check(err error) {
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	END
	(cd "$work" && go build -mod=mod -o vault .)
}

build_otelcol() {
	local builder=${otelcol_version%-*}
	(cd "$work" && cp "$otelcol_recipe" . && go run "go.opentelemetry.io/collector/cmd/builder@$builder" --config builder.yaml && mv build/otelcol .)
}

build_tempo() {
	tree tempo "github.com/grafana/tempo@$tempo_version"
	# Its codec has to be registered after gRPC's own, whose name it takes: since Go 1.21
	# packages begin by the order of their names unless one imports the other.
	sed -i 's,^import (,&\n\t_ "google.golang.org/grpc/encoding/proto",' "$work/tempo-tree/pkg/gogocodec/gogocodec.go"
	# Its golang.org/x/net refers to what later linkers keep to the standard library.
	(cd "$work/tempo-tree" && go build -mod=mod -ldflags=-checklinkname=0 -o "$work/tempo" ./cmd/tempo)
}

build_loki() {
	tree loki "github.com/grafana/loki/v3@$loki_version"
	# It builds with a module in its own tree, of which this is the like.
	local push=github.com/grafana/loki/pkg/push
	(cd "$work/loki-tree" && go mod edit -replace "$push=$push@$loki_push_version" && go build -mod=mod -o "$work/loki" ./cmd/loki)
}

# tree copies a module's tree to NAME-tree, to be built as its authors do: replacements
# in a go.mod count for nobody else.
tree() { # tree NAME MODULE@VERSION
	local from
	from=$(cd "$work" && go mod download -json "$2" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
	cp -r "$from" "$work/$1-tree"
	chmod -R u+w "$work/$1-tree"
}

[ $# -gt 0 ] || set -- versitygw vault otelcol tempo loki
for name in "$@"; do
	declare -F "build_$name" >/dev/null || { echo "test/servers.sh: there is no server $name" >&2 && exit 2; }
	version=${name}_version
	if [ -x "$dir/$name" ] && [ "$(cat "$dir/$name.version" 2>/dev/null)" = "${!version}" ]; then
		echo "$name ${!version} is in $dir"
		continue
	fi
	began=$SECONDS
	"build_$name"
	mv "$work/$name" "$dir/$name"
	echo "${!version}" >"$dir/$name.version"
	echo "$name ${!version}: built in $((SECONDS - began)) s, $(($(stat -c %s "$dir/$name") >> 20)) MiB, in $dir"
done
