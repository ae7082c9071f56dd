// Tells neighbours which heads are held here: all of them to a new neighbour, changed ones every `tellIntervalMs`, and
// a slice to a neighbour whose digest differs. A neighbour that lacks a head then pulls its state.
import type { Origin } from '../../model/values.ts'
import { encodeFrame } from '../../wire/messages.ts'
import { HeadsDigest } from '../digest.ts'
import { checkOf, comparePositions, type Head } from '../head.ts'
import type { Neighbour } from '../neighbour.ts'
import type { Outbox } from '../outbox.ts'
import type { Replicas } from '../replicas.ts'
import { isSliceDue, nextSlice } from './slice.ts'

interface HeadsOptions {
  readonly headsIntervalMs: number
  readonly replicas: Replicas
  readonly neighbours: ReadonlyMap<Origin, Neighbour>
  readonly outbox: Outbox
}

/** The heads of one protocol instance, and their digest. */
export class Heads {
  readonly #options: HeadsOptions
  readonly #digest = new HeadsDigest()

  constructor(options: HeadsOptions) {
    this.#options = options
  }

  /** The digest of all heads that are held (digest.ts). */
  get digest(): number {
    return this.#digest.value
  }

  /** Takes a new head of an origin into the digest. */
  set(head: Head): void {
    this.#digest.set(head)
  }

  /** Removes the head of an origin whose state is not held any more. */
  delete(origin: Origin): void {
    this.#digest.delete(origin)
  }

  /** Sends all heads to a new neighbour. */
  tellAll(peer: Origin): void {
    this.#tell(peer, this.#options.replicas.heads(), true)
  }

  /** Tells each neighbour the heads that have changed since it was last told. */
  tellChanged(): void {
    const { neighbours, replicas } = this.#options
    for (const { origin: peer, untold, claims } of neighbours.values()) {
      if (untold.size === 0) continue
      const heads: Head[] = []
      for (const origin of untold) {
        const head = replicas.get(origin)?.head
        const claim = claims.get(origin)
        if (head && !(claim && comparePositions(claim, head) >= 0)) heads.push(head)
      }
      untold.clear()
      this.#tell(peer, heads)
    }
  }

  /** Compares the digest of a ping with the digest of this agent. True when both hold the same heads. */
  compare(neighbour: Neighbour, digest: number, nowMs: number): boolean {
    const isSame = digest === this.digest
    neighbour.mismatches = isSame ? 0 : neighbour.mismatches + 1
    const { mismatches } = neighbour
    const { headsIntervalMs, replicas } = this.#options
    const sinceMs = nowMs - neighbour.sliceMs
    if (isSliceDue({ digest, mismatches, sinceMs, headsIntervalMs })) {
      neighbour.sliceMs = nowMs
      const { slice, cursor } = nextSlice(replicas.heads(), neighbour.cursor)
      neighbour.cursor = cursor
      this.#tell(neighbour.origin, slice)
    }
    return isSame
  }

  /** Sends heads in frames of HEADS_PER_FRAME. The flag `all` is set only when one frame has all heads. */
  #tell(peer: Origin, heads: readonly Head[], all = false): void {
    for (let start = 0; start < heads.length; start += HEADS_PER_FRAME) {
      const part = heads.slice(start, start + HEADS_PER_FRAME)
      const message = { heads: part.map(toHeadRef), all: all && part.length === heads.length }
      this.#options.outbox.send(peer, encodeFrame({ heads: message }))
    }
  }
}

/** A frame that tells of one head. */
export function headFrame(head: Head): Uint8Array {
  return encodeFrame({ heads: { heads: [toHeadRef(head)] } })
}

function toHeadRef(head: Head) {
  return { origin: head.origin, epoch: head.epoch, seq: head.seq, check: checkOf(head) }
}

// A reference to a head has about 70 bytes, so a frame has about 70 KB.
const HEADS_PER_FRAME = 1000
