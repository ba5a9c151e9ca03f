package objects

// SmallParts makes parts of 5 MiB, the smallest that stores accept.
func (b *Bucket) SmallParts() { b.single, b.part = 5<<20, 5<<20 }
