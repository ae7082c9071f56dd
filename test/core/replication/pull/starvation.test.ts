// Neighbours that claim heads which they never deliver (D1, D2, Q2, Q4), in virtual time.
import assert from 'node:assert/strict'
import type { Origin } from '../../../../src/core/model/values.ts'
import { originOf } from '../../../../src/core/model/identity.ts'
import { createProtocol, type Effect, type Protocol } from '../../../../src/core/replication/protocol.ts'
import { decodeFrame, encodeFrame } from '../../../../src/core/wire/messages.ts'
import { createCrypto } from '../../../../src/io/crypto/crypto.ts'
import { credentialOf, newAdmission } from '../../../sim/mesh.ts'

const crypto = createCrypto()
const STEP_MS = 100

const agents = Array.from({ length: 5 }, (_, index) => {
  const seed = new Uint8Array(32).fill(index + 1)
  return { seed, origin: originOf(crypto.publicKeyOf(seed)) }
})
const [victim, relay, writer, ...liars] = agents
assert.ok(victim && relay && writer)

/** writer – relay – victim, with the liars as neighbours of the victim. */
class Line {
  readonly protocols = new Map<Origin, Protocol>()
  nowMs = 0
  /** What the victim asks of the liars. */
  readonly asked: { readonly atMs: number; readonly of: Origin; readonly fromSeq: number }[] = []

  constructor() {
    for (const { seed, origin } of [victim, relay, writer] as typeof agents) {
      const admission = newAdmission(origin)
      for (const each of agents) admission.admit(each.origin, credentialOf(each.origin))
      const meshId = new Uint8Array(32).fill(7)
      this.protocols.set(origin, createProtocol({ self: origin, selfSeed: seed, meshId, crypto, admission }))
    }
    for (const [left, right] of [
      [writer, relay],
      [relay, victim]
    ] as (typeof agents)[]) {
      assert.ok(left && right)
      this.carry(left.origin, this.of(left.origin).peerUp(right.origin, 0))
      this.carry(right.origin, this.of(right.origin).peerUp(left.origin, 0))
    }
    for (const { origin } of liars) this.carry(this.victim, this.of(this.victim).peerUp(origin, 0))
  }

  get victim(): Origin {
    assert.ok(victim)
    return victim.origin
  }

  get writer(): Origin {
    assert.ok(writer)
    return writer.origin
  }

  of(origin: Origin): Protocol {
    const protocol = this.protocols.get(origin)
    assert.ok(protocol)
    return protocol
  }

  receive(from: Origin, frame: Uint8Array): void {
    this.carry(this.victim, this.of(this.victim).receive(from, frame, this.nowMs))
  }

  carry(from: Origin, effects: readonly Effect[]): void {
    for (const effect of effects) {
      if (effect.kind === 'whenSent') this.carry(from, this.of(from).sent(effect.to))
      if (effect.kind !== 'send') continue
      const to = this.protocols.get(effect.to)
      if (to) this.carry(effect.to, to.receive(from, effect.frame, this.nowMs))
      const pull = to ? undefined : decodeFrame(effect.frame)?.pull
      if (pull) this.asked.push({ atMs: this.nowMs, of: effect.to, fromSeq: pull.fromSeq })
    }
  }

  /** Runs until this time. `lie` acts as the liars; the result is how long the victim was behind at a stretch at most. */
  run(untilMs: number, lie: (liar: Origin) => void): number {
    let behindSinceMs = this.nowMs
    let longestMs = 0
    for (; this.nowMs < untilMs; this.nowMs += STEP_MS) {
      for (const { origin } of liars) lie(origin)
      if (this.nowMs % 500 === 0) this.#publish()
      if (this.nowMs % 200 === 0)
        for (const [origin, protocol] of this.protocols) this.carry(origin, protocol.tick(this.nowMs))
      const held = this.of(this.victim).head(this.writer)?.seq
      if (held === this.of(this.writer).head(this.writer)?.seq) behindSinceMs = this.nowMs
      longestMs = Math.max(longestMs, this.nowMs - behindSinceMs)
    }
    return longestMs
  }

  #publish(): void {
    const port = (this.nowMs / 500) % 60_000
    const value = {
      kind: 'service' as const,
      namespace: 'shop',
      name: 'web',
      type: 'ClusterIP' as const,
      clusterIps: [],
      ports: [],
      sessionAffinity: 'ClientIP' as const,
      affinitySeconds: 1 + port
    }
    this.carry(
      this.writer,
      this.of(this.writer).publish([{ key: 'svc/shop/web', value: value as never }], this.nowMs)
    )
  }
}

describe('claims that are not kept', () => {
  const heads = (origin: Origin, seq: number) =>
    encodeFrame({ heads: { heads: [{ origin, epoch: 1, seq }] } })

  it('of two identities in turn delay an origin for seconds once, and then no more', () => {
    const line = new Line()
    let claim = 1_000_000
    const lie = (liar: Origin) => line.receive(liar, heads(line.writer, claim++))
    assert.ok(line.run(20_000, lie) <= 10_000)
    const longestMs = line.run(140_000, lie)
    assert.ok(longestMs <= 1000, `the victim was ${longestMs} ms behind`)
    const perMinute = line.asked.filter(({ atMs }) => atMs >= 80_000).length
    assert.ok(perMinute <= 2 * 10, `the liars were asked ${perMinute} times in a minute`)
  })

  it('are not forgotten when the liar connects anew', () => {
    const line = new Line()
    let claim = 1_000_000
    const lie = (liar: Origin) => {
      if (line.nowMs % 1000 === 0) {
        line.carry(line.victim, line.of(line.victim).peerDown(liar))
        line.carry(line.victim, line.of(line.victim).peerUp(liar, line.nowMs))
      }
      line.receive(liar, heads(line.writer, claim++))
    }
    line.run(20_000, lie)
    assert.ok(line.run(140_000, lie) <= 1500)
  })

  it('count as broken when the answer leads to less than was claimed', () => {
    const line = new Line()
    const [liar] = liars
    assert.ok(liar && relay)
    line.run(2000, () => undefined)
    line.receive(liar.origin, heads(line.writer, 1_000_000))
    assert.equal(line.asked.length, 1)
    // The liar relays what is held already.
    const writer = line.of(line.writer)
    const answer = writer.head(line.writer)
    assert.ok(answer)
    line.receive(
      liar.origin,
      encodeFrame({
        delta: {
          head: { head: answer.bytes, signature: answer.signature },
          fromSeq: answer.seq,
          operations: []
        }
      })
    )
    line.receive(liar.origin, heads(line.writer, 2_000_000))
    assert.equal(line.asked.length, 1, 'it is not asked again at once')
  })
})
