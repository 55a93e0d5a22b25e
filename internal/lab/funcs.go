package lab

// Funcs returns what executes the scenarios, by id.
func Funcs() map[string]Func {
	return map[string]Func{
		"DF-003":  routeSearch,
		"DF-004":  retransmissionStorm,
		"DF-005":  classes,
		"DF-011":  frameGrowth,
		"DF-012":  splitDirectory,
		"DF-014":  jitterFeedback,
		"DF-015":  abnormalEnds,
		"DF-016":  parallelOpening,
		"DF-017":  transparentRepair,
		"DF-022":  rekeyWaves,
		"DF-023":  droppedFrames,
		"DF-028":  switchLanes,
		"DF-029":  changingRoutes,
		"DF-032":  versionMix,
		"DF-034":  driftingPaths,
		"DF-037":  priorityWrites,
		"DF-041":  metadataGrowth,
		"DF-045":  fragments,
		"DF-046":  heartbeats,
		"DF-047":  collections,
		"DF-048":  missingTags,
		"DF-050":  arrival,
		"SCL-001": baseline,
		"SCL-003": mixedKeys,
		"SCL-006": saturation,
		"SCL-012": killMixes,
		"SCL-013": backpressure,
		"SCL-035": carrierHandshakes,
		"SCL-036": switchKEM,
		"SCL-037": reloadKeys,
		"SCL-039": clientVersions,
		"SCL-044": encodeLoad,
	}
}
