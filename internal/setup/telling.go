package setup

import "slices"

// Sizes of the files of a log, in MB.
const (
	defaultLogMegabytes = 256
	logMegabytesMax     = 1 << 20 // a terabyte; more is a slip of the pen
)

// told reads how lines leave the process.
func (d *document) told(c *Config, f *configFile) {
	if c.LogFormat = f.Log.Format; c.LogFormat == "" {
		c.LogFormat = "text"
	}
	if !slices.Contains([]string{"text", "json"}, c.LogFormat) {
		d.bad("log.format", "%q is not a format. Use text or json", f.Log.Format)
	}
	if f.Log.File != "" {
		c.LogFile = d.file(f.Log.File)
		if f.Log.Format == "text" {
			d.bad("log.format", "the files of log.file hold JSON; leave it out, or write json")
		}
		c.LogFormat = "json"
	}
	if f.Log.Megabytes == 0 {
		f.Log.Megabytes = defaultLogMegabytes
	} else if f.Log.File == "" {
		d.bad("log.megabytes", "bounds the files of log.file, which is not there")
	}
	if f.Log.Megabytes < 1 || f.Log.Megabytes > logMegabytesMax {
		d.bad("log.megabytes", "%d is out of range; use 1 to %d", f.Log.Megabytes, logMegabytesMax)
	}
	c.LogBudget = f.Log.Megabytes << 20
}
