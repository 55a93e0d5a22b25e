package console

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Scenarios is the lab as the console shows it: a ledger, its evidence, and runs.
type Scenarios interface {
	// Ledger joins the catalogue with the evidence that is kept.
	Ledger() ([]ScenarioRow, error)
	// Evidence is what a scenario's last run left, in JSON; nil without a run.
	Evidence(id string) ([]byte, error)
	// Run runs a scenario with its negative control and keeps the evidence. It returns
	// as soon as ctx ends.
	Run(ctx context.Context, id string, progress func(line string)) (verdict string, err error)
}

// ScenarioRow is one scenario of the ledger.
type ScenarioRow struct {
	ID, Title, Mode, SLI, Verdict, Reason string
	Objectives, Measured, Control         []string
	Checks                                []ScenarioCheck
	Done                                  bool
	Replay                                string
}

// ScenarioCheck is one line of its definition of done.
type ScenarioCheck struct {
	Text string
	Done bool
}

// errBusy means that a scenario runs: they take all processors that there are.
var errBusy = errors.New("a scenario runs already; wait for it")

// runs are the runs of scenarios that were begun here, one at a time.
type runs struct {
	mu   sync.Mutex
	stop context.CancelFunc // of the one that runs; nil: none does
	last run
}

// run is one run.
type run struct {
	ID, Line, Verdict, Trouble string
	Running                    bool
	Begun                      time.Time
	Took                       time.Duration
}

func (r *runs) cancel() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop != nil {
		r.stop()
	}
}

func (r *runs) now() run {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

type scenariosPage struct {
	Here        bool
	Rows        []ScenarioRow
	Done, Total int
	Run         run
}

func (c *Console) scenarios(*call) (any, error) {
	p := &scenariosPage{Here: c.cfg.Scenarios != nil, Run: c.runs.now()}
	if !p.Here {
		return p, nil
	}
	var err error
	if p.Rows, err = c.cfg.Scenarios.Ledger(); err != nil {
		return nil, err
	}
	p.Total = len(p.Rows)
	for i := range p.Rows {
		if p.Rows[i].Done {
			p.Done++
		}
	}
	return p, nil
}

type evidencePage struct {
	ScenarioRow
	Evidence string
	Run      run
}

func (c *Console) evidence(k *call) (any, error) {
	row, err := c.scenario(k.PathValue("id"))
	if err != nil {
		return nil, err
	}
	b, err := c.cfg.Scenarios.Evidence(row.ID)
	return &evidencePage{row, string(b), c.runs.now()}, err
}

// scenario finds a scenario of the catalogue.
func (c *Console) scenario(id string) (row ScenarioRow, err error) {
	if c.cfg.Scenarios == nil {
		return row, errNone
	}
	rows, err := c.cfg.Scenarios.Ledger()
	if err != nil {
		return row, err
	}
	i := slices.IndexFunc(rows, func(r ScenarioRow) bool { return r.ID == id })
	if i < 0 {
		return row, errNone
	}
	return rows[i], nil
}

// runScenario begins a run; its page shows how far it is.
func (c *Console) runScenario(k *call) (string, error) {
	row, err := c.scenario(k.PostForm.Get("id"))
	if err != nil {
		return "", err
	}
	r := &c.runs
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last.Running {
		return "", errBusy
	}
	if err := c.record(k, "console.scenario", row.ID); err != nil {
		return "", err
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(k.Context()))
	r.stop, r.last = stop, run{ID: row.ID, Running: true, Begun: c.cfg.Now()}
	go func() {
		defer stop()
		verdict, err := c.cfg.Scenarios.Run(ctx, row.ID, func(line string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.last.Line = line
		})
		r.mu.Lock()
		defer r.mu.Unlock()
		r.last.Running, r.last.Verdict, r.last.Took = false, verdict, c.cfg.Now().Sub(r.last.Begun)
		if err != nil {
			r.last.Trouble = oneLine(err)
		}
	}()
	return "/scenarios/" + row.ID, nil
}
