// Package directory is what the network knows of itself: descriptors that
// nodes sign, the epoch document that a threshold of authorities signs, its
// verification, and the draw of a path from it.
//
// The package is pure: wall time is an argument (seconds since 1970), bytes
// come from the caller, randomness is a prng.Stream. Who serves the document
// need not be trusted: a server can withhold it, not change it, and a client
// draws its own path, so that nobody can steer it (docs/protocol.md,
// section 7).
//
// Flow: a node makes a Node and SignDescriptor; each Authority collects
// descriptors, builds the Document of an epoch and signs it; signatures are
// merged; a client or node verifies with a Keeper, makes a View once per
// document and calls View.Draw for each route. A client of a big network
// verifies the table alone, draws a Sample of buckets and makes a partial View.
package directory

import "time"

// Versions of the formats: Format is that of descriptors and entries, of nodes
// with carriers FormatCarriers; DocumentFormat that of headers and buckets.
const (
	Format         = 1
	FormatCarriers = 2
	DocumentFormat = 2
)

// Contexts keep signatures of one kind from being taken for another.
const (
	documentContext     = "nyx directory 2"
	descriptorContext   = "nyx descriptor 1"
	bulletinContext     = "nyx bulletin 1"
	reportContext       = "nyx report 1"
	distrustContext     = "nyx distrust 1"
	introductionContext = "nyx introduction 1"
)

// ClockGrace is the clock error that is tolerated in both directions: a
// document is accepted this long before it begins and after it ends.
const ClockGrace = time.Hour

// bucketNodes is how many nodes a bucket has at the most, on average: 170 kB,
// which one answer holds, and among which one that is looked for is hidden.
const bucketNodes = 64

// bucketBitsMax is reached by a region of MaxNodes nodes.
const bucketBitsMax = 10

// Limits of the specification. Each bounds what a hostile document or
// descriptor can make a reader hold.
const (
	// MaxNodes is the most nodes of one document: the largest planned network
	// has 50,000 entries.
	MaxNodes = 1 << 16
	// MaxBuckets is the most rows of a table: a node less than half a row when
	// the buckets of a region have just split, and one row for each region more.
	MaxBuckets = 2*MaxNodes/bucketNodes + MaxRegions
	// MaxAuthorities bounds the signatures to check.
	MaxAuthorities = 32
	// MaxRegions bounds the table of region pairs of a View (64² entries).
	MaxRegions = 64
	// MaxAddrs is enough for an address of each family on two carriers.
	MaxAddrs = 4
	// MaxNameSize bounds operator, region, label and network names, in bytes.
	MaxNameSize = 64
	// MaxPortRanges bounds an exit policy.
	MaxPortRanges = 32
	// MaxParams bounds the named parameters of a document.
	MaxParams = 64
	// MaxDescriptorSize bounds a signed descriptor, in bytes: identity 1984,
	// three KEM keys 3648, signature 3373, and some 1000 for the rest.
	MaxDescriptorSize = 10 << 10
	// MaxEntrySize bounds a node's entry in a document, in bytes.
	MaxEntrySize = 5 << 10
	// MaxDocumentSize bounds a document, in bytes.
	MaxDocumentSize = MaxNodes*MaxEntrySize + 1<<20
	// MaxTableSize bounds a table, in bytes: 200 for each row.
	MaxTableSize = MaxProposalSize + MaxBuckets*200
	// MaxBucketSize bounds a bucket, in bytes. IDs are hashes, so that chance
	// gives none more than twice bucketNodes; sixteen times that is left to who
	// makes identities until they fall into one bucket.
	MaxBucketSize = 16*bucketNodes*MaxEntrySize + 4<<10
	// MaxProposalSize bounds a header with its signatures, in bytes: 32 of 3.4 KB,
	// and 64 parameters.
	MaxProposalSize = 128 << 10
	// MaxBulletinSize bounds a signed bulletin, in bytes: up to 18 for each node,
	// the names and a figure for each pair of regions, and the signature.
	MaxBulletinSize = MaxNodes*18 + 300<<10
	// MaxBundleSize bounds the bulletins of all authorities, in bytes.
	MaxBundleSize = MaxAuthorities*MaxBulletinSize + 1<<10
	// MaxReportSize bounds a node's signed report: the signature, and a name and a
	// figure for each region.
	MaxReportSize = 10 << 10
	// DescriptorAgeMax is how old a descriptor may be when an epoch begins:
	// nodes publish at least daily, and one missed publication is forgiven.
	DescriptorAgeMax = 48 * time.Hour
)
