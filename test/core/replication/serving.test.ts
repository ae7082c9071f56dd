import assert from 'node:assert/strict'
import type { ServiceValue } from '../../../src/core/model/values.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import { createProtocol, type Effect, type Protocol } from '../../../src/core/replication/protocol.ts'
import { decodeFrame, encodeFrame } from '../../../src/core/wire/messages.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { newAdmission } from '../../sim/mesh.ts'

const crypto = createCrypto()
const seed = new Uint8Array(32).fill(1)
const self = originOf(crypto.publicKeyOf(seed))
const limits = { partBytes: 1000, unsentBytesMax: 4000, allUnsentBytesMax: 12_000 }
const PARTS = 40
const SLACK = 1.3 // heads, tags and the names of origins

describe('an agent that many pull from', () => {
  it('holds a short queue for each, however much they ask for, and all come to the end of it', () => {
    const protocol = seedAgent()
    const peers = Array.from({ length: 30 }, (_, index) =>
      originOf(crypto.publicKeyOf(new Uint8Array(32).fill(9 + index)))
    )
    const waiting = new Map<string, number>()
    const received = new Map<string, number>()
    const run = (effects: readonly Effect[]) => {
      for (const effect of effects) {
        if (effect.kind === 'whenSent') waiting.set(effect.to, (waiting.get(effect.to) ?? 0) + 1)
        const delta = effect.kind === 'send' ? decodeFrame(effect.frame)?.delta : undefined
        if (effect.kind !== 'send' || !delta) continue
        received.set(effect.to, (received.get(effect.to) ?? 0) + effect.frame.length)
      }
    }
    for (const peer of peers) {
      run(protocol.peerUp(peer, 0))
      run(protocol.receive(peer, pull(), 0))
    }
    const first = [...received.values()]
    assert.ok(Math.max(...first) <= SLACK * (limits.unsentBytesMax + limits.partBytes))
    assert.ok(
      first.reduce((sum, bytes) => sum + bytes) <=
        SLACK * (2 * limits.allUnsentBytesMax + 30 * limits.partBytes)
    )
    for (const peer of peers) {
      for (let turn = 0; waiting.has(peer); turn++) {
        assert.equal(waiting.get(peer), 1, 'asked twice')
        waiting.delete(peer)
        const before = received.get(peer) ?? 0
        run(protocol.sent(peer))
        assert.ok((received.get(peer) ?? 0) - before <= SLACK * (limits.unsentBytesMax + limits.partBytes))
        assert.ok(turn < 2 * PARTS)
      }
      assert.ok((received.get(peer) ?? 0) >= PARTS * limits.partBytes)
    }
  })

  it('forgets one that goes, and begins with it anew', () => {
    const protocol = seedAgent()
    const peer = originOf(crypto.publicKeyOf(new Uint8Array(32).fill(9)))
    const frames = new Set<number>()
    for (let times = 0; times < 30; times++) {
      protocol.peerUp(peer, 0)
      const effects = protocol.receive(peer, pull(), 0)
      assert.ok(effects.some(({ kind }) => kind === 'whenSent'))
      frames.add(effects.length)
      assert.deepEqual(protocol.peerDown(peer), [])
      assert.deepEqual(protocol.sent(peer), [])
    }
    assert.equal(frames.size, 1, 'those that are gone take no room')
  })
})

function pull(): Uint8Array {
  return encodeFrame({ pull: { origin: self, epoch: 0, fromSeq: 0, window: 1e6 } })
}

function seedAgent(): Protocol {
  const protocol = createProtocol({
    self,
    selfSeed: seed,
    meshId: new Uint8Array(32).fill(7),
    crypto,
    admission: newAdmission(self),
    limits
  })
  const changes = Array.from({ length: PARTS * 12 }, (_, index) => {
    const value: ServiceValue = {
      kind: 'service',
      namespace: 'shop',
      name: `service-${'x'.repeat(40)}-${index}`,
      clusterIps: [],
      ports: [],
      headless: true,
      externalName: '',
      affinitySeconds: 1,
      publishNotReady: false
    }
    return { key: `svc/shop/${value.name}`, value }
  })
  protocol.publish(changes, 0)
  return protocol
}
