package stream

import (
	"bytes"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/fec"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// What sessions measure of themselves is what happened, and events say the same:
// an answer after 50 ms of thought over 20 ms of round trip, which waits 30 ms more
// for its reader. Bytes that were on their way when a request was written are no
// answer to it.
func TestSessionsMeasureWhatHappened(t *testing.T) {
	const think, late = 50 * time.Millisecond, 30 * time.Millisecond
	var near, far trace.Distributions
	var answered, read []time.Duration
	frames := uint64(0)
	sink := func(e trace.Event) {
		switch {
		case e.Kind == trace.StreamAnswered && e.B == uint64(PriorityHigh):
			answered = append(answered, time.Duration(e.A))
		case e.Kind == trace.StreamQueued && e.B == 1:
			read = append(read, time.Duration(e.A))
		case e.Kind == trace.PacketTaken:
			frames = max(frames, e.B)
		}
	}
	w := established(t, 1, Config{Sink: sink, Distributions: &near}, Config{Distributions: &far})
	id, err := w.client.OpenStream(w.now, PriorityHigh)
	if err != nil {
		t.Fatal(err)
	}
	var into bytes.Buffer
	answer := pattern(5000, 1)
	turn := func() {
		w.client.Write(w.now, id, []byte("request"))
		w.until(time.Second, func() bool { return w.server.streams.get(id) != nil && w.server.streams.get(id).in.have > 0 })
		readAll(w.server, w.now, id, &into)
		w.run(think)
		w.server.Write(w.now, id, answer[:2500])
		w.run(5 * time.Millisecond)
		w.server.Write(w.now, id, answer[2500:])
		w.until(time.Second, func() bool { return w.client.streams.get(id).in.have > 0 })
		w.client.Write(w.now, id, []byte("meanwhile")) // the rest of the answer is on its way
		w.run(late)
		readAll(w.client, w.now, id, &into)
	}
	turn()
	if len(answered) != 1 || answered[0] < think+20*time.Millisecond || answered[0] > think+25*time.Millisecond {
		t.Errorf("answered after %v", answered)
	}
	if len(read) != 1 || read[0] < late || read[0] > late+5*time.Millisecond {
		t.Errorf("read after %v", read)
	}
	v := &near[trace.LatencyOf(uint8(PriorityHigh))]
	if v.Count != 1 || v.Sum != uint64(answered[0]/time.Microsecond) || near[trace.LatencyOf(uint8(PriorityNormal))].Count != 0 {
		t.Errorf("%d latencies of %d µs together", v.Count, v.Sum)
	}
	if n := far[trace.LatencyOf(uint8(PriorityNormal))].Count; n != 0 {
		t.Errorf("who answers measures %d latencies", n)
	}
	if near[trace.StreamQueueIn].Count != 1 || near[trace.StreamQueueOut].Count != 2 || far[trace.StreamQueueIn].Sum > far[trace.StreamQueueIn].Count*5000 {
		t.Errorf("queues: %d read, %d sent; the far end's reader took %d µs", near[trace.StreamQueueIn].Count, near[trace.StreamQueueOut].Count, far[trace.StreamQueueIn].Sum)
	}
	// Metadata are the frames of 5,000 bytes of content, and little besides.
	if m := &near[trace.MetadataSize]; frames > wire.SessionPayloadSize || frames < wire.SessionPayloadSize-9 || m.Count != w.client.Stats().PacketsReceived || m.Sum > 40*m.Count {
		t.Errorf("greatest frame %d; %d bytes of metadata in %d packets of %d", frames, m.Sum, m.Count, w.client.Stats().PacketsReceived)
	}
	if out := w.scounts[trace.SessionPacketOut]; out != w.server.Stats().PacketsSent || w.scounts[trace.ContentOut] < 5 {
		t.Errorf("%d packets out of %d, %d frames of content", out, w.server.Stats().PacketsSent, w.scounts[trace.ContentOut])
	}
}

// A repair is told by how long the first packet that it is for has waited for it,
// and a drop by how long its packet was under way.
func TestRepairsAndDropsAreMeasured(t *testing.T) {
	var near trace.Distributions
	told, most := uint64(0), uint64(0)
	sink := func(e trace.Event) {
		if e.Kind == trace.RepairSent {
			told, most = told+1, max(most, e.B)
		}
	}
	w := established(t, 1, Config{Distributions: &near, Sink: sink}, Config{})
	w.routes[0].loss = 100_000
	id, _ := w.client.OpenStream(w.now, PriorityNormal)
	var into bytes.Buffer
	for range 200 {
		w.client.Write(w.now, id, pattern(20_000, 1))
		w.run(10 * time.Millisecond)
		readAll(w.server, w.now, id, &into)
	}
	repairs := w.client.Stats().RepairsSent
	if v := &near[trace.FECEncode]; v.Count != repairs || told != repairs || most == 0 || most > fec.Reach || repairs == 0 || v.Quantile(0.99) > 60_000 {
		t.Errorf("%d of %d repairs measured, P99 %d µs", v.Count, repairs, v.Quantile(0.99))
	}
	w.routes[0].down = true
	w.client.Write(w.now, id, []byte("dropped"))
	w.poll()
	w.run(7 * time.Millisecond)
	if !w.client.Dropped(w.now, uint32(w.client.out.next-1)) {
		t.Fatal("the packet is not in flight")
	}
	if v := &near[trace.DropDetect]; v.Count != 1 || v.Sum > 7000 {
		t.Errorf("%d drops, told after %d µs", v.Count, v.Sum)
	}
}
