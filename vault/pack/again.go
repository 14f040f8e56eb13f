package pack

import (
	"crypto/hmac"
	"crypto/sha256"

	"dsvault/vault/dataset"
)

// Start names the sample that shard n begins with, under salt; nil for a plan
// that is not of samples. It tells nothing to whoever has no salt.
func (p *Plan) Start(n int, salt []byte) []byte {
	if p.packing != dataset.PackTar {
		return nil
	}
	return start(p.sample(p.shards[n].first), salt)
}

func start(sample string, salt []byte) []byte {
	mac := hmac.New(sha256.New, salt)
	mac.Write([]byte("dsvault start\x00" + sample))
	return mac.Sum(nil)[:16]
}

// KeepCuts gives a plan of the same samples that also cuts where an earlier one
// did: before each sample whose Start is among starts. So what lies behind a
// file that has changed its size stays in shards that are as they were. Of
// anything but samples it is the plan itself.
func (p *Plan) KeepCuts(starts [][]byte, salt []byte) (*Plan, error) {
	if p.packing != dataset.PackTar || len(starts) == 0 {
		return p, nil
	}
	known := make(map[string]bool, len(starts))
	for _, s := range starts {
		known[string(s)] = true
	}
	again := *p
	again.shards, again.total, again.files = nil, 0, 0
	err := again.cutSamples(p.opts, func(sample string) bool { return known[string(start(sample, salt))] })
	return &again, err
}

// Numbered is the manifest of a shard that has this number in its dataset.
func (p *Plan) Numbered(m dataset.Manifest, number int) dataset.Manifest {
	m.Number = number
	if m.Packing == dataset.PackTar {
		m.Name = tarName(p.name, number)
	}
	return m
}
