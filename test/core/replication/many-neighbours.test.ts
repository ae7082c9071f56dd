// One that everybody dials at once, as after an outage: what it owes each of them must not add up to bursts.
import assert from 'node:assert/strict'
import type { Origin } from '../../../src/core/model/values.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import { createProtocol, type Effect, type Protocol } from '../../../src/core/replication/protocol.ts'
import { decodeFrame, encodeFrame, type FrameMessage } from '../../../src/core/wire/messages.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { credentialOf, newAdmission } from '../../sim/mesh.ts'

const crypto = createCrypto()
const TICK_MS = 200
const PEERS = 100
const SECONDS = 20

describe('an agent with a hundred neighbours', () => {
  it('pings each in its own time, and those that ping it seldom', () => {
    const { protocol, peers, run } = crowd()
    const pinging = new Set(peers.slice(0, 90))
    const pings = new Map<Origin, number>()
    let most = 0
    for (let nowMs = 2000; nowMs < 2000 + SECONDS * 1000; nowMs += TICK_MS) {
      for (const peer of peers)
        if (nowMs % 1000 === 0) protocol.receive(peer, pinging.has(peer) ? PING : PONG, nowMs)
      const told = run(protocol.tick(nowMs)).filter(({ frame }) => frame.ping)
      most = Math.max(most, told.length)
      for (const { to } of told) pings.set(to, (pings.get(to) ?? 0) + 1)
    }
    assert.ok(most <= PEERS / 3, `${most} pings in one tick`)
    for (const peer of peers) {
      const count = pings.get(peer) ?? 0
      const [least, limit] = pinging.has(peer) ? [SECONDS / 5, SECONDS / 3] : [SECONDS - 1, SECONDS + 1]
      assert.ok(count >= least && count <= limit, `${count} pings`)
    }
  })

  it('gives up one that does not ping, whoever else does', () => {
    const { protocol, peers, run } = crowd()
    const [silent, ...others] = peers
    const aborted: string[] = []
    for (let nowMs = 2000; nowMs < 2000 + SECONDS * 1000; nowMs += TICK_MS) {
      for (const peer of others) if (nowMs % 1000 === 0) protocol.receive(peer, PING, nowMs)
      run(protocol.tick(nowMs), (effect) => {
        if (effect.kind === 'abort') aborted.push(effect.peer)
      })
    }
    assert.deepEqual(aborted, [silent])
  })

  it('suspects those that fall silent together a few at a time, and all in the end', () => {
    const { protocol, run } = crowd()
    const suspected = new Set<string>()
    for (let nowMs = 2000; nowMs < 2000 + SECONDS * 1000; nowMs += TICK_MS) {
      const votes = run(protocol.tick(nowMs)).filter(({ frame }) => frame.suspicion)
      assert.ok(votes.length <= 512, `${votes.length} frames in one tick`)
      for (const { frame } of votes) suspected.add(Buffer.from(frame.suspicion?.body ?? []).toString('hex'))
    }
    assert.equal(suspected.size, PEERS)
  })
})

const PING = encodeFrame({ ping: { id: 1 } })
const PONG = encodeFrame({ pong: { id: 1 } })

interface Sent {
  readonly to: Origin
  readonly frame: FrameMessage
}

/** All up at moments of their own, and known to the mesh. */
function crowd(): {
  protocol: Protocol
  peers: readonly Origin[]
  run: (effects: readonly Effect[], look?: (effect: Effect) => void) => readonly Sent[]
} {
  const selfSeed = new Uint8Array(32).fill(1)
  const self = originOf(crypto.publicKeyOf(selfSeed))
  const admission = newAdmission(self)
  const peers = Array.from({ length: PEERS }, (_, index) =>
    originOf(crypto.publicKeyOf(new Uint8Array(32).fill(9 + index)))
  )
  for (const peer of peers) admission.admit(peer, credentialOf(peer))
  const meshId = new Uint8Array(32).fill(7)
  const protocol = createProtocol({ self, selfSeed, meshId, crypto, admission })
  const run = (effects: readonly Effect[], look?: (effect: Effect) => void): readonly Sent[] =>
    effects.flatMap((effect) => {
      look?.(effect)
      const frame = effect.kind === 'send' ? decodeFrame(effect.frame) : undefined
      return effect.kind === 'send' && frame ? [{ to: effect.to, frame }] : []
    })
  for (let nowMs = 0; nowMs < 2000; nowMs += TICK_MS) {
    for (const [index, peer] of peers.entries())
      if (index % 10 === nowMs / TICK_MS) run(protocol.peerUp(peer, nowMs))
    run(protocol.tick(nowMs))
  }
  return { protocol, peers, run }
}
