# The policy of admission that Nyx ships. A bundle of one's own replaces it in whole:
# it has this package and yields this rule (docs/control-plane.md).
#
# input.credential  "none", "key" or "token": by what the entry knows the client
# input.level       "fast", "standard", "high" or "extreme"
# input.load        "calm", "busy" or "full": the queue before admission
# input.region      of the entry
package nyx.admission

decision := {
	"accept": true,
	"per_minute": 30,
	"lifetime_s": 3600,
	"cache_s": 300,
	"work": work,
}

default work := 0

# Whom a full entry knows by nothing shows some work.
work := 14 if {
	input.load == "full"
	input.credential == "none"
}
