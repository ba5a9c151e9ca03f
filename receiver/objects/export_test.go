package objects

// SmallParts makes bodies of more than 5 MiB, the least that stores take, go in parts.
func (b *Bucket) SmallParts() { b.single, b.part = 5<<20, 5<<20 }
