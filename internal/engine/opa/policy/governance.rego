# The policy of who may read the audit log, as Nyx ships it. A bundle of one's own
# replaces it in whole: it has this package and yields this rule (docs/governance.md).
#
# input.role                  "viewer", "operator", "admin" or "auditor"
# input.action                "events.read", "events.prove", "exports.make", …
# input.org                   whose the one who asks is; "" is the network's own
# input.clearance             0 to 2: the most sensitive that they are cleared for
# input.resource.org          what is asked for: of which organisation,
# input.resource.all_orgs     or of all of them
# input.resource.sensitivity  the most sensitive in it
# input.resource.age_s        of the oldest in it, in seconds; -1: without bound
package nyx.governance

# Who runs the service takes no copies of its log, and who takes them runs nothing.
grants := {
	"viewer": {"actions": reads, "sensitivity": 0, "days": 7},
	"operator": {"actions": reads | runs | {"events.prove"}, "sensitivity": 1, "days": 30},
	"admin": {"actions": reads | runs | {"events.prove", "reports.make"}, "sensitivity": 1, "days": 366},
	"auditor": {"actions": reads | {"events.prove", "reports.make", "exports.make", "exports.read"}, "sensitivity": 2, "days": 0},
}

reads := {"events.read", "reports.read", "configuration.read", "insights.read"}

# What the console changes; the API of the audit log has no way to it.
runs := {"configuration.change", "network.operate", "scenarios.run"}

default grant := {"actions": set(), "sensitivity": 0, "days": 0}

grant := grants[input.role]

# The bounds of who asks without any stand beside the decision: a role that sees a
# window gets that window.
decision := {
	"allow": allow,
	"reason": refusal,
	"sensitivity": min({grant.sensitivity, input.clearance}),
	"window_days": grant.days,
}

default allow := false

allow if refusal == ""

default refusal := ""

refusal := sprintf("there is no role %q", [input.role]) if {
	not grants[input.role]
} else := sprintf("role %s may not do %s", [input.role, input.action]) if {
	not input.action in grant.actions
} else := "it is of another organisation" if {
	input.org != ""
	elsewhere
} else := sprintf("sensitivity %d is above what you may see", [input.resource.sensitivity]) if {
	input.resource.sensitivity > min({grant.sensitivity, input.clearance})
} else := sprintf("role %s sees the last %d days", [input.role, grant.days]) if {
	grant.days > 0
	too_old
}

elsewhere if input.resource.all_orgs

elsewhere if input.resource.org != input.org

too_old if input.resource.age_s < 0

too_old if input.resource.age_s > grant.days * 86400
