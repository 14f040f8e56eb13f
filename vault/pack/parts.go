package pack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// maxPartName leaves room for ".part-NNNNNN" in a file's name.
const maxPartName = maxElement - len(".part-000000")

// maxJoinState bounds the record of a file's parts: a million parts fit.
const maxJoinState = 256 << 20

// joinAtOnce is how many bytes of parts are joined before it is put on record.
const joinAtOnce = 16 << 20

// join is the record of a file whose parts arrive one by one. It is kept in the
// folder from the first part until the file is whole: as JSON, and then a line
// for each step since. All of it happens under the folder's lock.
//
// Parts are joined from the first to the last into one hidden file. After some of
// them Joined is stored, and only then are these removed: a run that dies at any
// point is taken up by the next, and the disk never has to hold the file twice.
type join struct {
	Name    string             `json:"name"`
	Parts   int                `json:"parts"`
	Mode    uint32             `json:"mode"`
	ModTime int64              `json:"mtime"`
	Whole   *dataset.Whole     `json:"whole,omitempty"` // of slices
	Field   string             `json:"field,omitempty"` // slices are by its values; the last part is their order
	Joined  int                `json:"joined"`          // the first so many are in the hidden file
	Have    map[int]joinedPart `json:"have"`            // verified, joined or not

	w    *workspace
	sync bool
	runs [][]byte // where the bytes of each slice lie, if they are by value
	kept bool     // the record is there, to its last line
	seen *joinMemo
}

// joinStep is one line of the record.
type joinStep struct {
	Part   *int        `json:"part,omitempty"` // arrived, as
	As     *joinedPart `json:"as,omitempty"`
	Joined int         `json:"joined"`
}

type joinedPart struct {
	Size   int64            `json:"size"`
	SHA256 dataset.HexBytes `json:"sha256"`
	Head   int64            `json:"head,omitempty"` // these bytes of it are not of the file
	Tail   int64            `json:"tail,omitempty"`
}

func partOf(m dataset.Manifest) joinedPart { return joinedPart{m.Size, m.SHA256, m.Head, m.Tail} }

// body is the number of bytes that the part adds to the file.
func (p joinedPart) body() int64 { return p.Size - p.Head - p.Tail }

func (p joinedPart) equal(q joinedPart) bool {
	return p.Size == q.Size && bytes.Equal(p.SHA256, q.SHA256) && p.Head == q.Head && p.Tail == q.Tail
}

// newJoin starts the record of the file that m is a part of.
func newJoin(w *workspace, m dataset.Manifest, sync bool) *join {
	return &join{Name: m.Name, Parts: m.Parts, Mode: m.Mode, ModTime: m.ModTime, Whole: m.Whole, Field: m.Field,
		Have: map[int]joinedPart{}, w: w, sync: sync}
}

func (j *join) partName(n int) string {
	if j.Field != "" && n == j.Parts-1 {
		return j.hidden("order")
	}
	if j.Whole != nil {
		return SliceName(j.Name, n)
	}
	return partName(j.Name, n)
}

// hidden gives a name of ours for the file; a hash, so that it is never too long.
func (j *join) hidden(kind string) string {
	sum := sha256.Sum256([]byte(j.Name))
	return reserved + kind + "-" + hex.EncodeToString(sum[:12])
}

// placePart gives the staged part its name and joins the file if it can.
func (w *workspace) placePart(ctx context.Context, m dataset.Manifest, opts UnpackOptions) (UnpackResult, error) {
	const op = "pack.Unpack"
	res := UnpackResult{Files: 1, Bytes: m.Size}
	j := &join{Name: m.Name, w: w, sync: !opts.NoSync}
	if opts.Assembly != nil {
		opts.Assembly.joining.Lock()
		defer opts.Assembly.joining.Unlock()
		j.seen = &opts.Assembly.memo
	}
	found, err := j.load()
	if err != nil {
		return res, err
	}
	if found && !j.agrees(m) {
		if !opts.Overwrite {
			return res, fault.New(fault.Conflict, op, "parts of another version of "+quote(m.Name)+" are in the way").
				WithHint("unpack into an empty folder, or ask to overwrite")
		}
		if err := j.discard(); err != nil {
			return res, localFault(op, "cannot remove old parts of "+quote(m.Name), err)
		}
		found = false
	}
	if !found {
		seen := j.seen
		j = newJoin(w, m, j.sync)
		j.seen = seen
		whole, err := w.isWithin(ctx, m)
		if err != nil {
			return res, localFault(op, "cannot compare "+quote(m.Name), err)
		}
		if whole {
			res.Name, res.Same = m.Name, 1
			return res, nil
		}
		if _, err := w.root.Lstat(m.Name); !errors.Is(err, fs.ErrNotExist) && !opts.Overwrite {
			return res, inTheWay(m.Name, "something else")
		}
	}
	if m.Part >= j.Joined {
		if err := j.take(ctx, m, opts.Overwrite, &res); err != nil {
			return res, err
		}
	}
	if res.Name = j.partName(m.Part); m.Packing == dataset.PackOrder {
		res.Name, res.Files = "", 0
	}
	if err := j.run(ctx, opts.Overwrite, &res); err != nil {
		return res, err
	}
	return res, nil
}

// agrees reports whether m is a part of the version that j is about.
func (j *join) agrees(m dataset.Manifest) bool {
	have, ok := j.Have[m.Part]
	return j.Name == m.Name && j.Parts == m.Parts && j.Mode == m.Mode && j.ModTime == m.ModTime &&
		sameWhole(j.Whole, m.Whole) && j.Field == m.Field && (!ok || have.equal(partOf(m)))
}

func sameWhole(a, b *dataset.Whole) bool {
	return a == b || a != nil && b != nil && a.Size == b.Size && bytes.Equal(a.SHA256, b.SHA256)
}

// isWithin reports whether the whole file is there already and has the staged
// part at its place.
func (w *workspace) isWithin(ctx context.Context, m dataset.Manifest) (bool, error) {
	info, err := w.root.Lstat(m.Name)
	if err != nil || !info.Mode().IsRegular() {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	if m.Whole != nil {
		return w.isWhole(ctx, m.Name, info, *m.Whole)
	}
	offset, rest := int64(m.Part)*m.Size, info.Size()-m.Size
	if m.Part == m.Parts-1 {
		offset = rest
	}
	if offset < 0 || offset > rest {
		return false, nil
	}
	staged, err := w.stage.Open(stagedFile)
	if err != nil {
		return false, err
	}
	defer staged.Close()
	return sameRange(ctx, w.root, staged, m.Name, offset, m.Size)
}

// take gives the staged part its name beside the file and records it.
func (j *join) take(ctx context.Context, m dataset.Manifest, overwrite bool, res *UnpackResult) error {
	name := j.partName(m.Part)
	if err := j.w.stage.Rename(stagedFile, name); err != nil {
		return localFault("pack.Unpack", "cannot write "+quote(name), err)
	}
	_, ours := j.Have[m.Part] // then it may be replaced: it can only be the same or damaged
	p := placer{ctx: ctx, w: j.w, overwrite: overwrite || ours}
	err := p.look(".")
	if err == nil {
		err = p.move()
	}
	if err != nil {
		return err
	}
	res.Same = p.same
	part := partOf(m)
	j.Have[m.Part] = part
	return j.record(joinStep{Part: &m.Part, As: &part, Joined: j.Joined})
}

// run joins all parts when they are there. Without them it only counts.
func (j *join) run(ctx context.Context, overwrite bool, res *UnpackResult) error {
	const op = "pack.Unpack"
	if len(j.Have) == j.Parts {
		j.forgetLost()
	}
	if res.Missing = j.Parts - len(j.Have); res.Missing > 0 {
		return nil
	}
	have, err := j.w.root.Lstat(j.Name)
	if err == nil {
		if done, err := j.finished(); done || err != nil {
			res.Name = j.Name
			return err
		}
		if !overwrite || !have.Mode().IsRegular() {
			return inTheWay(j.Name, "a "+kindOf(have.Mode()))
		}
	}
	for n := j.Joined - 1; n >= 0; n-- { // a run died before it could
		if err := j.w.root.Remove(j.partName(n)); err != nil {
			break
		}
	}
	if err := j.loadOrder(); err != nil {
		return err
	}
	if err := j.joinAll(ctx); err != nil {
		return err
	}
	if err := j.verify(ctx); err != nil {
		return err
	}
	hidden := j.hidden("join")
	err = j.w.root.Chmod(hidden, os.FileMode(j.Mode))
	if err == nil {
		err = j.w.root.Chtimes(hidden, time.Time{}, time.Unix(0, j.ModTime))
	}
	if err == nil {
		err = j.w.root.Rename(hidden, j.Name)
	}
	if err == nil {
		err = j.w.root.Remove(j.hidden("parts"))
	}
	res.Name = j.Name
	return localOrNil(op, "cannot write "+quote(j.Name), err)
}

// finished reports whether a run died between its last rename and the removal
// of the record, and removes it then.
func (j *join) finished() (bool, error) {
	if _, err := j.w.root.Lstat(j.hidden("join")); j.Joined < j.Parts || !errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return true, localOrNil("pack.Unpack", "cannot remove the record of parts", j.w.root.Remove(j.hidden("parts")))
}

// forgetLost drops the record of parts whose files were removed.
func (j *join) forgetLost() {
	for n := j.Joined; n < j.Parts; n++ {
		info, err := j.w.root.Lstat(j.partName(n))
		if err != nil || !info.Mode().IsRegular() {
			delete(j.Have, n)
		}
	}
}

// joinAll joins the parts that are not joined yet.
func (j *join) joinAll(ctx context.Context) error {
	const op = "pack.Unpack"
	if j.Joined == j.Parts {
		return nil
	}
	start := int64(0)
	for n := range j.Joined {
		start += j.Have[n].body()
	}
	dst, err := j.w.root.OpenFile(j.hidden("join"), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return localFault(op, "cannot join "+quote(j.Name), err)
	}
	defer dst.Close()
	for j.Joined < j.Parts {
		first, size := j.Joined, int64(0)
		for size < joinAtOnce && j.Joined < j.Parts {
			if err := j.appendNext(ctx, dst, start+size); err != nil {
				j.Joined = first
				return err
			}
			size += j.Have[j.Joined].body()
			j.Joined++
		}
		start += size
		if j.sync {
			err = dst.Sync()
		}
		if err != nil {
			j.Joined = first
			return localFault(op, "cannot join "+quote(j.Name), err)
		}
		if err := j.record(joinStep{Joined: j.Joined}); err != nil {
			return err
		}
		for n := first; n < j.Joined; n++ {
			if err := j.w.root.Remove(j.partName(n)); err != nil {
				return localFault(op, "cannot remove "+quote(j.partName(n)), err)
			}
		}
	}
	return nil
}

// appendNext puts the next part at its place in the hidden file, checking it once
// more: it lay in the open since it came.
func (j *join) appendNext(ctx context.Context, dst *os.File, start int64) error {
	const op = "pack.Unpack"
	name, want := j.partName(j.Joined), j.Have[j.Joined]
	src, err := j.w.root.OpenFile(name, readFlags, 0)
	if err != nil {
		return localFault(op, "cannot read "+quote(name), err)
	}
	defer src.Close()
	in := newHashReader(ctx, src, want.Size)
	defer in.close()
	switch {
	case j.Field == "":
		// Truncated first: a run that died may have left half of this part.
		if err = dst.Truncate(start); err == nil {
			_, err = dst.Seek(start, io.SeekStart)
		}
		if err == nil {
			err = want.copyBody(dst, in)
		}
	case j.Joined < j.Parts-1:
		err = j.scatter(dst, in, j.Joined)
	default: // the order, which has served
		_, err = in.WriteTo(io.Discard)
	}
	if err != nil {
		return localFault(op, "cannot join "+quote(j.Name), err)
	}
	if extra, _ := src.Read(make([]byte, 1)); extra > 0 || in.limit > 0 || !bytes.Equal(in.close(), want.SHA256) {
		return changedPart(name)
	}
	return nil
}

// copyBody reads all of the part and writes what is of the file.
func (p joinedPart) copyBody(dst io.Writer, in *hashReader) error {
	if p.Head == 0 && p.Tail == 0 {
		_, err := in.WriteTo(dst)
		return err
	}
	_, err := io.CopyN(io.Discard, in, p.Head)
	if err == nil {
		_, err = io.CopyN(dst, in, p.body())
	}
	if err == nil {
		_, err = in.WriteTo(io.Discard)
	}
	return endIsFine(err)
}

func changedPart(name string) error {
	return fault.New(fault.Conflict, "pack.Unpack", quote(name)+" was changed after it was unpacked").
		WithHint("remove it and fetch its shard again")
}

// verify compares the joined file with what the manifests say about the whole.
// One that differs cannot be mended: it goes, with its record.
func (j *join) verify(ctx context.Context) error {
	const op = "pack.Unpack"
	if j.Whole == nil {
		return nil
	}
	sum, size, err := hashFile(ctx, j.w.root, j.hidden("join"))
	if err != nil {
		return localFault(op, "cannot read back "+quote(j.Name), err)
	}
	if size == j.Whole.Size && bytes.Equal(sum, j.Whole.SHA256) {
		return nil
	}
	return j.giveUp()
}

// giveUp removes what there is of the file.
func (j *join) giveUp() error {
	const op = "pack.Unpack"
	if err := j.discard(); err != nil {
		return localFault(op, "cannot remove the slices of "+quote(j.Name), err)
	}
	return fault.New(fault.Corrupt, op, "the slices of "+quote(j.Name)+" do not join to the file that was pushed").
		WithHint("fetch them shard by shard with --shard: each is a good file of its own; and tell the dataset's owner")
}

// joinMemo spares a run reading a record that it has just written.
type joinMemo struct {
	last join
	file hashedFile // as it was then
}

// load reads the record, if there is one.
func (j *join) load() (found bool, err error) {
	const op = "pack.Unpack"
	f, err := j.w.root.Open(j.hidden("parts"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, localFault(op, "cannot read the record of parts", err)
	}
	defer f.Close()
	if j.remembered(f) {
		return true, nil
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxJoinState))
	if err != nil {
		return false, localFault(op, "cannot read the record of parts", err)
	}
	name := j.Name
	if err := j.parse(raw); err != nil || j.Name != name || j.Joined < 0 || j.Joined > j.Parts || j.Have == nil {
		return false, fault.Wrap(fault.Conflict, op, "the record of the parts of "+quote(name)+" is damaged", err).
			WithHint("remove " + j.hidden("parts") + " and unpack every part again")
	}
	return true, nil
}

// parse reads a record. A last line that is not whole was not kept: the run that
// wrote it died.
func (j *join) parse(raw []byte) error {
	end := bytes.LastIndexByte(raw, '\n') + 1
	if j.kept = end == len(raw); end > 0 {
		raw = raw[:end]
	}
	first, steps, _ := bytes.Cut(raw, []byte("\n"))
	if err := json.Unmarshal(first, j); err != nil {
		return err
	}
	for line := range bytes.Lines(steps) {
		var step joinStep
		if err := json.Unmarshal(line, &step); err != nil {
			return err
		}
		if step.Part != nil && step.As != nil && j.Have != nil {
			j.Have[*step.Part] = *step.As
		}
		j.Joined = step.Joined
	}
	return nil
}

// remembered takes the record from the memo, if that is what f holds.
func (j *join) remembered(f fs.File) bool {
	info, err := f.Stat()
	if err != nil || j.seen == nil || j.seen.last.Name != j.Name || j.seen.file != stateOf(info) || j.seen.file.id == (fileID{}) {
		return false
	}
	w, sync, seen := j.w, j.sync, j.seen
	*j = seen.last
	j.w, j.sync, j.seen = w, sync, seen
	return true
}

// remember puts the record, which f holds, into the memo.
func (j *join) remember(f fs.File) {
	if j.seen == nil {
		return
	}
	j.seen.file = hashedFile{}
	if info, err := f.Stat(); err == nil {
		j.seen.last, j.seen.file = *j, stateOf(info)
	}
}

func stateOf(info fs.FileInfo) hashedFile {
	return hashedFile{id: idOf(info), size: info.Size(), mtime: info.ModTime().UnixNano()}
}

// record adds a step to the record.
func (j *join) record(step joinStep) error {
	const op = "pack.Unpack"
	if !j.kept {
		return j.store()
	}
	line, err := json.Marshal(step)
	if err != nil {
		return fault.Wrap(fault.Internal, op, "cannot make the record of parts", err)
	}
	f, err := j.w.root.OpenFile(j.hidden("parts"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return localFault(op, "cannot write the record of parts", err)
	}
	defer f.Close()
	_, err = f.Write(append(line, '\n'))
	if err == nil && j.sync {
		err = f.Sync()
	}
	if j.kept = err == nil; err == nil {
		j.remember(f)
	}
	return localOrNil(op, "cannot write the record of parts", err)
}

// store replaces the record in one step.
func (j *join) store() error {
	const op, staged = "pack.Unpack", "record"
	raw, err := json.Marshal(j)
	if err != nil {
		return fault.Wrap(fault.Internal, op, "cannot make the record of parts", err)
	}
	f, err := j.w.stage.OpenFile(staged, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return localFault(op, "cannot write the record of parts", err)
	}
	defer f.Close()
	_, err = f.Write(append(raw, '\n'))
	if err == nil && j.sync {
		err = f.Sync()
	}
	if err == nil {
		err = j.w.root.Rename(j.w.name+"/"+staged, j.hidden("parts"))
	}
	if j.kept = err == nil; err == nil {
		j.remember(f)
	}
	return localOrNil(op, "cannot write the record of parts", err)
}

// discard removes the parts, the hidden file and the record of a version that
// is given up.
func (j *join) discard() error {
	names := []string{j.hidden("join")}
	for n := range j.Have {
		names = append(names, j.partName(n))
	}
	for _, name := range append(names, j.hidden("parts")) {
		if err := j.w.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func localOrNil(op, message string, err error) error {
	if err == nil {
		return nil
	}
	return localFault(op, message, err)
}
