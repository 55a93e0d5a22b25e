package settings

import (
	"time"

	"github.com/nyxnet/nyx/internal/wire"
)

// Keys of a Nyx network. What a node's file says holds where a key is not set.
const (
	AdmissionPerMinute  = "admission.per_minute"
	AdmissionLifetime   = "admission.lifetime"
	AdmissionRecordsMax = "admission.records_max"
	CoverRateMax        = "cover.rate_max_percent"
	ExitAllowPrivate    = "exit.allow_private"
	ExitPorts           = "exit.ports"
	LogLevel            = "log.level"
	RelayDrain          = "relay.drain"
	TelemetrySampling   = "telemetry.sampling"
	PolicyBundle        = "policy.bundle_url"
)

// Network returns the schema of this version.
func Network() *Schema {
	return NewSchema(
		Key{Name: AdmissionPerMinute, Kind: Number, Least: 1, Most: 100_000, Default: "30", Roles: Stream,
			Help: "sessions that one client may open at an entry in a minute"},
		Key{Name: AdmissionLifetime, Kind: Duration, Least: int64(time.Minute), Most: int64(24 * time.Hour), Default: "1h", Roles: Stream,
			Help: "how long the token of a new session is good"},
		Key{Name: AdmissionRecordsMax, Kind: Number, Least: 1, Most: 10_000_000, Default: "1000000", Roles: Stream,
			Help: "session records that an entry keeps; with so many it refuses clients that it does not know"},
		Key{Name: CoverRateMax, Kind: Number, Least: 100, Most: 200, Default: "200", Roles: Stream,
			Help: "greatest rate that a cover plan may give a class, in percent of the class; a plan with a greater one is refused"},
		Key{Name: ExitAllowPrivate, Kind: Truth, Default: "false", Roles: Stream,
			Help: "whether exits open loopback, private and other special addresses"},
		Key{Name: ExitPorts, Kind: Ports, Default: "1-65535", Roles: Stream,
			Help: "ports of targets that exits open"},
		Key{Name: LogLevel, Kind: Word, Words: []string{"debug", "info", "warn", "error"}, Default: "info", Roles: Stream | Mix | Control,
			Help: "the least level of lines in the log"},
		Key{Name: RelayDrain, Kind: Duration, Most: int64(time.Hour), Default: "0s", Roles: Stream | Mix,
			Help: "how long a node that is told to stop serves on"},
		Key{Name: TelemetrySampling, Kind: Number, Least: 1, Most: wire.TelemetryStandsMax, Default: "10", Roles: Stream | Mix,
			Help: "of how many telemetry reports that say nothing out of the ordinary one is sent"},
		Key{Name: PolicyBundle, Kind: URL, Roles: Control,
			Help: "where the policy's bundle is fetched"},
	)
}
