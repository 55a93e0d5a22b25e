package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/internal/lab/monitor"
	"github.com/nyxnet/nyx/internal/slo"
)

// alertStorm is SCL-047: 500 different alerts come in a minute, each told to both
// Alertmanagers again and again as Prometheus does, and one of them is killed half-way. The
// pager must hear of every alert, and once. In the control there is one Alertmanager.
func alertStorm(r *Run) error {
	if err := monitor.There(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "nyx-lab-storm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p := newPager()
	defer p.Close()
	cluster, err := p.cluster(dir, map[bool]int{true: 2, false: 1}[r.Protected])
	if err != nil {
		return err
	}
	defer func() {
		for _, am := range cluster {
			am.Close()
		}
	}()
	ctx := context.Background()
	alerts, perMinute := r.Scaled("alerts"), r.Param("alerts_per_minute")
	gap := time.Duration(float64(time.Minute) / perMinute)
	begun := time.Now()
	told := make([]map[string]any, 0, alerts)
	for i := range alerts {
		time.Sleep(time.Until(begun.Add(time.Duration(i) * gap)))
		told = append(told, map[string]any{"labels": map[string]string{"alertname": "NyxBudgetBurnsNow", "severity": slo.Page, "slo": fmt.Sprintf("synthetic-%d", i)},
			"annotations": map[string]string{"summary": fmt.Sprintf("alert %d", i)}})
		if i == alerts/2 {
			cluster[0].Kill()
			if cluster = cluster[1:]; len(cluster) == 0 {
				break
			}
		}
		news := told[i:]
		if i%100 == 99 {
			news = told // Prometheus repeats what is firing
		}
		for _, am := range cluster {
			if err := am.Post(ctx, "/api/v2/alerts", news); err != nil {
				return err
			}
		}
	}
	p.settle(alerts, r.Duration("settle_seconds", time.Second))
	keys, again := p.counts()
	r.Tally("alertmanager_notifications_total", uint64(keys), uint64(alerts))
	r.Tally("alerts_told_again", uint64(again), uint64(max(alerts, keys+again)))
	for _, am := range cluster {
		page, err := am.Get(ctx, "/metrics")
		if err != nil {
			return err
		}
		r.Note("the Alertmanager that is left counts %.0f notifications to PagerDuty, of which %.0f failed", summed(page, `alertmanager_notifications_total{integration="pagerduty"`), summed(page, `alertmanager_notifications_failed_total{integration="pagerduty"`))
	}
	r.Note("%d alerts, %v a minute, to %d pages; %d came again", alerts, perMinute, keys, again)
	return nil
}

// cluster starts Alertmanagers that know each other.
func (p *pager) cluster(dir string, n int) (all []*monitor.Server, err error) {
	to, err := p.receivers(dir)
	if err != nil {
		return nil, err
	}
	var gossip []string
	for i := range n {
		at, err := monitor.FreeAddr()
		if err != nil {
			return all, err
		}
		am, err := monitor.Alertmanager(filepath.Join(dir, fmt.Sprint("alertmanager-", i)), slo.Alertmanager(to), at, gossip...)
		if err != nil {
			return all, err
		}
		all, gossip = append(all, am), append(gossip, at)
	}
	return all, nil
}

// settle waits until so many alerts have been paged, or for a time.
func (p *pager) settle(alerts int, most time.Duration) {
	limit := time.After(most)
	for {
		if keys, _ := p.counts(); keys >= alerts {
			return
		}
		select {
		case <-p.alert:
		case <-limit:
			return
		}
	}
}
