# The policy of admission that Nyx ships. A bundle of one's own replaces it in whole:
# it has this package and yields this rule (docs/control-plane.md).
#
# input.credential  "none", "key" or "token": by what the entry knows the client
# input.level       "fast", "standard", "high" or "extreme"
# input.load        "calm", "busy" or "full": the queue before admission
# input.region      of the entry
#
# It says nothing of how often and for how long: the limits of the node hold, which the
# configuration of the network sets (nyx config).
package nyx.admission

decision := {
	"accept": true,
	"cache_s": 300,
	"work": work,
}

default work := 0

# Whom a full entry knows by nothing shows some work.
work := 14 if {
	input.load == "full"
	input.credential == "none"
}
