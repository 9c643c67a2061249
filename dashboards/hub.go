package dashboards

import "github.com/telemesh/telemesh/internal/vocab"

// hubBoard shows whether the hub itself can be trusted: what it took in, what
// it lost, how long that took and how full it is.
func hubBoard() Board {
	panels := append(hubIngest(), hubStore()...)
	panels = append(panels, hubControl()...)
	return Board{
		UID: hubBoardUID, Title: "Hub", Slug: "hub", Tags: []string{tagAll, tagHub},
		description: "The hub's own golden signals: ingest, losses, store, look-up, graph and policy.",
		variables:   []variable{dataSourceVariable()},
		links:       navigation(), panels: panels,
	}
}

func hubIngest() []*panelJSON {
	ingest := func(q string) string { return quantile(q, nil, rate(vocab.MetricHubIngestDuration+suffixBucket)) }
	return []*panelJSON{
		panel{title: "Records", about: "Thin records per second that arrived.",
			unit: unitPerSec, width: 4, targets: []target{{expr: orZero(sumBy(nil, rate(vocab.MetricHubRecords)))}}}.stat(),
		panel{title: "Rejected", about: "Batches and parts of batches per second that the hub refused.",
			unit: unitPerSec, width: 4, steps: okUntil(1e-9, 1), targets: []target{{expr: orZero(sumBy(nil, rate(vocab.MetricHubRejected)))}}}.stat(),
		panel{title: "Ingest p99", about: "99 % of the batches were durable this long after they were received.",
			unit: unitSeconds, width: 4, targets: []target{{expr: ingest("0.99")}}}.stat(),
		panel{title: "Streams", about: "Open streams of sidecars.",
			unit: unitCount, width: 4, targets: []target{{expr: orZero(sumBy(nil, vocab.MetricHubStreams))}}}.stat(),
		panel{title: "Store", about: "Bytes of records on disk.",
			unit: unitBytes, width: 4, targets: []target{{expr: orZero(sumBy(nil, vocab.MetricHubStoreBytes))}}}.stat(),
		panel{title: "Corruptions", about: "Damaged places found in the store since the hub started. Anything above zero needs a person.",
			unit: unitCount, width: 4, steps: okUntil(1, 2), targets: []target{{expr: orZero(sumBy(nil, vocab.MetricHubCorrupt))}}}.stat(),

		panel{title: "Batches", about: "Batches per second by what became of them. A duplicate is a resend after a lost acknowledgement; it is counted once.",
			unit: unitPerSec, width: 8, stacked: true, targets: []target{{
				expr: sumBy([]string{vocab.LabelResult}, rate(vocab.MetricHubBatches)), legend: "{{" + vocab.LabelResult + "}}",
			}}}.graph(),
		panel{title: "Losses", about: "Records per second that sidecars say they dropped, and what the hub refused, by reason. Request counts stay exact.",
			unit: unitPerSec, width: 8, targets: []target{
				{expr: sumBy([]string{vocab.LabelReason}, rate(vocab.MetricHubLostRecords)), legend: "dropped by sidecars: {{" + vocab.LabelReason + "}}", mayBeEmpty: emptyNoLosses},
				{expr: sumBy([]string{vocab.LabelReason}, rate(vocab.MetricHubRejected)), legend: "refused by the hub: {{" + vocab.LabelReason + "}}", mayBeEmpty: emptyNoLosses},
			}}.graph(),
		panel{title: "Ingest latency", about: "From a batch received to a batch durable and acknowledged.",
			unit: unitSeconds, width: 8, colors: map[string]string{"p50": "green", "p99": "red"}, targets: []target{
				{expr: ingest("0.5"), legend: "p50"}, {expr: ingest("0.99"), legend: "p99"},
			}}.graph(),
		panel{title: "Open streams", about: "Streams by kind.",
			unit: unitCount, width: 8, targets: []target{{
				expr: sumBy([]string{vocab.LabelKind}, vocab.MetricHubStreams), legend: "{{" + vocab.LabelKind + "}}",
			}}}.graph(),
		panel{title: "Sidecars connected", about: "Known sidecars that have an open stream, by workload.",
			unit: unitCount, width: 8, targets: []target{{
				expr:   sumBy([]string{vocab.LabelNamespace, vocab.LabelWorkload}, vocab.MetricSidecarConnected),
				legend: "{{" + vocab.LabelNamespace + "}}/{{" + vocab.LabelWorkload + "}}",
			}}}.bars(),
		panel{title: "Records per second", about: "Thin records that arrived.",
			unit: unitPerSec, width: 8, targets: []target{{expr: orZero(sumBy(nil, rate(vocab.MetricHubRecords))), legend: "records"}}}.graph(),
	}
}

func hubStore() []*panelJSON {
	lookup := func(q string) string { return quantile(q, nil, rate(vocab.MetricHubLookup+suffixBucket)) }
	return []*panelJSON{
		row("Store"),
		panel{title: "Records stored", about: "Thin records that can be found.",
			unit: unitCount, width: 8, targets: []target{{expr: sumBy(nil, vocab.MetricHubStoreRecords), legend: "records"}}}.graph(),
		panel{title: "Bytes stored", about: "Size of the record store on disk.",
			unit: unitBytes, width: 8, targets: []target{{expr: sumBy(nil, vocab.MetricHubStoreBytes), legend: "bytes"}}}.graph(),
		panel{title: "Look-up", about: "Time to find a request by its ID.",
			unit: unitSeconds, width: 8, colors: map[string]string{"p50": "green", "p99": "red"}, targets: []target{
				{expr: lookup("0.5"), legend: "p50", mayBeEmpty: emptyNoLookups}, {expr: lookup("0.99"), legend: "p99", mayBeEmpty: emptyNoLookups},
			}}.graph(),
		panel{title: "Sealing", about: "Closed logs that wait to be sealed; at 4 the hub takes no more until one is done. Segments that wait for their upload, where there is a bucket.",
			unit: unitCount, width: 8, targets: []target{
				{expr: sumBy(nil, vocab.MetricHubStoreUnsealed), legend: "unsealed logs"},
				{expr: sumBy(nil, vocab.MetricHubBucketWaiting), legend: "segments to upload", mayBeEmpty: emptyNoBucket},
			}}.graph(),
		panel{title: "Bucket", about: "Failed uploads, look-ups that could not read a segment, and other failed operations, per second.",
			unit: unitPerSec, width: 8, targets: []target{
				{expr: sumBy(nil, rate(vocab.MetricHubBucketUploads+`{result="failed"}`)), legend: "uploads", mayBeEmpty: emptyNoBucket},
				{expr: sumBy(nil, rate(vocab.MetricHubBucketUnread)), legend: "look-ups", mayBeEmpty: emptyNoBucket},
				{expr: sumBy(nil, rate(vocab.MetricHubBucketErrors)), legend: "operations", mayBeEmpty: emptyNoBucket},
			}}.graph(),
		panel{title: "Memory", about: "What the hub needs, the limit that it keeps to, and the batches under way. Near the limit it takes in less; sidecars keep the newest meanwhile.",
			unit: unitBytes, width: 8, targets: []target{
				{expr: sumBy(nil, vocab.MetricHubMemoryUsed), legend: "used"},
				{expr: sumBy(nil, vocab.MetricHubMemoryLimit) + " > 0", legend: "limit", mayBeEmpty: emptyNoMemoryLimit},
				{expr: sumBy([]string{vocab.LabelState}, vocab.MetricHubAdmitted), legend: "batches {{" + vocab.LabelState + "}}"},
			}}.graph(),
	}
}

func hubControl() []*panelJSON {
	return []*panelJSON{
		row("Graph and policy"),
		panel{title: "Graph", about: "Edges of the live graph and the browsers that watch it.",
			unit: unitCount, width: 8, targets: []target{
				{expr: sumBy(nil, vocab.MetricHubEdges), legend: "edges"}, {expr: sumBy(nil, vocab.MetricHubWatchers), legend: "watchers"},
			}}.graph(),
		panel{title: "Credits granted", about: "Credits per second that sidecars leased, by limit.",
			unit: unitPerSec, width: 8, targets: []target{{
				expr: sumBy([]string{vocab.LabelLimit}, rate(vocab.MetricHubLeaseGrants)), legend: "{{" + vocab.LabelLimit + "}}", mayBeEmpty: emptyNoLimits,
			}}}.graph(),
		panel{title: "Policy reloads", about: "Policy files taken over and refused in the chosen time range.",
			unit: unitCount, width: 8, targets: []target{{
				expr:   sumBy([]string{vocab.LabelResult}, "increase("+vocab.MetricHubPolicyReloads+"[$__range])"),
				legend: "{{" + vocab.LabelResult + "}}", mayBeEmpty: emptyNoPolicy,
			}}}.bars(),
	}
}
