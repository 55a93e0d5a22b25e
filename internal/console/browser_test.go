package console

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// browserEnv has the test in a browser run, as those of cmd/nyx.
const browserEnv = "NYX_CONSOLE_BROWSER"

// Bounds of a chart that moves, in ms, and how often it is looked at: the best look counts,
// since a machine that does something else takes a pause of its own.
const (
	frameMost = 67.0  // of nineteen frames in twenty: four of a screen's
	taskMost  = 150.0 // of the longest task of the page's scripts and layout; people notice it from about there
	looksMost = 5
)

// smoothness is what a page did while its charts were moved over.
type smoothness struct {
	Frames        int
	P95, Longest  float64 // ms between frames
	Tasks         int     // that took above 50 ms
	LongestTask   float64 // ms; 0: none took so long
	Live          int     // points that came meanwhile
	Points, Drawn int     // of each chart, and pixels with ink in the first
}

func (s *smoothness) smooth() bool { return s.LongestTask <= taskMost && s.P95 <= frameMost }

// TestADayOfChartsIsSmooth: with 24 hours in the ring, all four charts are drawn, moved over
// and given live points without a pause that anybody notices. What the measurement sees is
// shown by a page that is made to pause.
func TestADayOfChartsIsSmooth(t *testing.T) {
	if os.Getenv(browserEnv) == "" {
		t.Skipf("drives a browser; set %s=1", browserEnv)
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium here; on Debian: apt-get install chromium")
	}
	b := newBoard(t, nil)
	b.live.mu.Lock()
	fillDay(b.live.ring, time.Now())
	b.live.mu.Unlock()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(1440, 900), chromedp.Flag("disable-dev-shm-usage", true))
	alloc, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	defer cancel()
	ctx, cancel := chromedp.NewContext(alloc)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate(b.server.URL+b.NewLink()), chromedp.Click("button.main"), chromedp.WaitVisible(".chart canvas"),
		chromedp.Click(`[data-span="24h"]`)); err != nil {
		t.Fatal(err)
	}
	var got smoothness
	var said []byte
	for range looksMost {
		got = watched(t, ctx, 2500, 0)
		said, _ = json.Marshal(got)
		t.Logf("a day of charts: %s", said)
		if got.smooth() {
			break
		}
	}
	if got.Points < pointsMost-2 || got.Drawn == 0 || got.Live < 1 {
		t.Errorf("it was not a day of charts that was watched: %s", said)
	}
	if !got.smooth() {
		t.Errorf("the longest task took %.0f ms, nineteen of twenty frames %.0f ms at most", got.LongestTask, got.P95)
	}
	if control := watched(t, ctx, 500, 2*taskMost); control.smooth() || control.LongestTask < 2*taskMost {
		t.Errorf("control: of a page that pauses for %v ms the longest task took %.0f ms", 2*taskMost, control.LongestTask)
	}
}

// fillDay puts 24 hours of samples into a ring, up to the step before now, with daily and
// short swings.
func fillDay(r *ring, now time.Time) {
	last := now.Unix()/int64(ringStep/time.Second) - 1
	for i := range int64(ringSize) {
		day := math.Sin(2 * math.Pi * float64(i) / float64(ringSize))
		v := float32(2 + day + 0.5*math.Sin(float64(i)/7))
		r.put(last-int64(ringSize)+1+i, sample{p95: 40 * v, carried: v, own: v / 3, asked: 20, sessions: uint32(4 * v), cover: -1, strain: -1, load: -1})
	}
}

// watched moves over the charts for so many ms, with a pause in one of the moves.
func watched(t *testing.T, ctx context.Context, long, pause float64) (got smoothness) {
	t.Helper()
	args, _ := json.Marshal(map[string]float64{"lasts": long, "pause": pause})
	got, err := chromedp.Run(ctx, chromedp.Evaluate[smoothness](`(`+watchScript+`)(`+string(args)+`)`, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

const watchScript = `async ({ lasts, pause }) => {
	const day = () => fetch("/history?span=24h").then(r => r.json());
	const points = (await day()).t.length;
	await new Promise(done => setTimeout(done, 500)); // the charts of the day are drawn
	const tasks = [], frames = [];
	const long = new PerformanceObserver(list => tasks.push(...list.getEntries().map(e => e.duration)));
	long.observe({ entryTypes: ["longtask"] });
	let live = 0;
	const news = new MutationObserver(() => live++);
	news.observe(document.body, { attributes: true, attributeFilter: ["data-live-at"] });
	const overs = [...document.querySelectorAll(".u-over")], begun = performance.now();
	await new Promise(done => {
		let last = begun, paused = pause === 0;
		const frame = at => {
			frames.push(at - last);
			last = at;
			for (const over of overs) {
				const r = over.getBoundingClientRect(), x = r.left + (frames.length * 7) % r.width;
				over.dispatchEvent(new MouseEvent("mousemove", { bubbles: true, clientX: x, clientY: r.top + r.height / 2, movementX: 7, movementY: 0 }));
			}
			if (!paused && at - begun > lasts / 2) {
				paused = true;
				for (const end = performance.now() + pause; performance.now() < end;);
			}
			if (at - begun < lasts) requestAnimationFrame(frame);
			else setTimeout(done, 200); // what was long is told a little later
		};
		requestAnimationFrame(frame);
	});
	long.disconnect();
	news.disconnect();
	const canvas = document.querySelector(".chart canvas"), ink = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
	let drawn = 0;
	for (let i = 3; i < ink.length; i += 4) if (ink[i]) drawn++;
	const sorted = frames.slice(1).sort((a, b) => a - b);
	return { Frames: sorted.length, P95: sorted[Math.floor(sorted.length * 0.95)], Longest: sorted.at(-1), Tasks: tasks.length, LongestTask: Math.max(0, ...tasks), Live: live, Points: points, Drawn: drawn };
}`
