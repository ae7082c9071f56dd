import assert from 'node:assert/strict'
import { Vestibule, type Admittance } from '../../../src/app/control/vestibule.ts'
import { monotonicMs } from '../../../src/app/observe/clock.ts'
import { openCredential } from '../../../src/core/trust/members/credential.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { World } from '../../core/trust/set/world.ts'
import { trustOf } from './trust-parts.ts'

const world = new World({ crypto: createCrypto() })
const seat = world.seat()
const west = world.found('west')
const east = world.join(seat, west, 1, 'east')
const far = world.join(seat, east, 2, 'far')
const INFO = { inbound: true, address: '/ip4/192.0.2.1/tcp/1' }

/** A vestibule over the set of an agent that holds these things. */
function make(holds = [west, east]) {
  const { trust } = trustOf(world, holds)
  const admitted: Admittance[] = []
  const refused: string[] = []
  const vestibule = new Vestibule({
    trust,
    onAdmitted: (_peer, admittance) => void admitted.push(admittance),
    onRefused: (_peer, { code }) => void refused.push(code)
  })
  const enter = (of: typeof east) => {
    const credential = openCredential(trust.members.set, world.agent(of, 1).item)
    assert.ok(credential.kind === 'credential')
    vestibule.enter(credential.origin, INFO, credential, 3)
    return credential.origin
  }
  const learn = (...things: readonly { readonly item: Uint8Array }[]) =>
    trust.learn(things.map(({ item }) => trust.members.set.open(item)).filter((one) => one.kind === 'item'))
  return { vestibule, admitted, refused, enter, learn }
}

describe('the vestibule', () => {
  it('admits a peer that stands when the sets are equal, with the frames that came before', () => {
    const { vestibule, admitted, enter } = make()
    const peer = enter(east)
    const frame = Uint8Array.of(1, 2, 3)
    vestibule.keep(peer, frame)
    frame.fill(0) // the transport uses its buffer again
    vestibule.tick(monotonicMs())
    assert.equal(admitted.length, 0, 'not before')
    vestibule.inStep(peer)
    assert.deepEqual(admitted[0]?.frames, [Uint8Array.of(1, 2, 3)])
    assert.equal(admitted[0]?.skewSeconds, 3)
    assert.ok(!vestibule.has(peer))
    vestibule.inStep(peer)
    assert.equal(admitted.length, 1, 'once')
  })

  it('waits 5 s at most', () => {
    const { vestibule, admitted, enter } = make()
    enter(east)
    vestibule.tick(monotonicMs() + 4000)
    assert.equal(admitted.length, 0)
    vestibule.tick(monotonicMs() + 5001)
    assert.equal(admitted.length, 1)
  })

  it('admits a peer by the statements that the exchange has brought, and refuses one that they end', () => {
    const { vestibule, admitted, refused, enter, learn } = make([west])
    const [first, second] = [enter(far), enter(east)]
    learn(east, far)
    vestibule.inStep(first)
    assert.equal(admitted.length, 1)
    learn(world.bar({ seat }, east))
    vestibule.inStep(second)
    assert.deepEqual([admitted.length, refused], [1, ['barred']])
  })

  it('refuses a peer whose sponsor is still unknown after 5 s', () => {
    const { vestibule, refused, enter } = make([west])
    vestibule.inStep(enter(far))
    vestibule.tick(monotonicMs() + 4000)
    assert.deepEqual(refused, [])
    vestibule.tick(monotonicMs() + 5001)
    assert.deepEqual(refused, ['unknownSponsor'])
  })

  it('admits a peer whose sponsor another neighbour brings, on the same connection', () => {
    const { vestibule, admitted, refused, enter, learn } = make([west])
    const peer = enter(far)
    vestibule.keep(peer, Uint8Array.of(1))
    vestibule.inStep(peer)
    learn(world.found('north'))
    vestibule.tick(monotonicMs())
    assert.deepEqual([admitted.length, refused], [0, []], 'a change that is about another cluster')
    learn(east)
    vestibule.tick(monotonicMs())
    assert.deepEqual([admitted[0]?.frames.length, refused], [1, []])
    assert.ok(!vestibule.has(peer))
  })

  it('keeps at most 1 MiB of frames, and nothing after the end of the connection', () => {
    const { vestibule, admitted, enter } = make()
    const peer = enter(east)
    for (let count = 0; count < 20; count++) vestibule.keep(peer, new Uint8Array(64 * 1024))
    vestibule.inStep(peer)
    assert.equal(admitted[0]?.frames.length, 16)
    const other = enter(east)
    vestibule.end(other)
    vestibule.keep(other, Uint8Array.of(1))
    vestibule.inStep(other)
    vestibule.tick(monotonicMs() + 10_000)
    assert.equal(admitted.length, 1)
  })
})
