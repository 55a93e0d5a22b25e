package exit

const (
	LookupsMax     = lookupsMax
	LookupsPerFlow = lookupsPerFlow
)
