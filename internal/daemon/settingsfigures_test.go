package daemon

import (
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/metric"
)

// TestSettingsFigures: the samples of a metric stand together, as the format demands,
// whatever parts there are.
func TestSettingsFigures(t *testing.T) {
	var page metric.Page
	writeSettings(&page, []part{
		{Name: "node-1", settled: &settled{}}, {Name: "node-2", settled: &settled{}}, {Name: "control", control: &Control{}, desk: &deskFigures{}},
	})
	samples, present := map[string]int{}, ""
	for line := range strings.Lines(page.String()) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			present, _, _ = strings.Cut(name, " ")
		} else if name, _, _ := strings.Cut(line, "{"); !strings.HasPrefix(line, "#") {
			if samples[name]++; name != present {
				t.Errorf("a sample of %s stands among those of %s", name, present)
			}
		}
	}
	if samples["config_applied_version"] != 3 || samples["control_duplicate_event_detected"] != 3 || samples["config_refused_version"] != 2 {
		t.Error(samples)
	}
}
