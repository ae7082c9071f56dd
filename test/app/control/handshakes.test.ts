import assert from 'node:assert/strict'
import { setImmediate as turn } from 'node:timers/promises'
import { Handshakes } from '../../../src/app/control/handshakes.ts'
import type { Origin } from '../../../src/core/model/values.ts'
import type { HandshakeOutcome } from '../../../src/core/trust/door/port.ts'
import { type Actor, doorOf, DoorWorld } from '../../core/trust/door/door-world.ts'

const world = new DoorWorld()
const seat = world.seat()
const west = world.found('west')
const OUT = { inbound: false, address: '/ip4/192.0.2.1/tcp/1' }
const IN = { ...OUT, inbound: true }

/** The handshakes of one agent, what they sent, and how they ended. */
function of(actor: Actor) {
  const sent: { readonly to: Origin; readonly frame: Uint8Array }[] = []
  const verdicts: { readonly peer: Origin; readonly verdict: HandshakeOutcome }[] = []
  const handshakes = new Handshakes({
    crypto: world.crypto,
    origin: actor.origin,
    nodeSeed: actor.seed,
    meshId: actor.meshId,
    software: 'rhizome/test',
    door: doorOf(actor),
    shows: () => actor.shows,
    send: (to, frame) => void sent.push({ to, frame }),
    onVerdict: (peer, _info, verdict) => void verdicts.push({ peer, verdict })
  })
  return { actor, handshakes, sent, verdicts }
}

type Side = ReturnType<typeof of>

/** Carries the frames between two sides until neither sends more. */
function carry(one: Side, two: Side): void {
  while (one.sent.length + two.sent.length > 0) {
    for (const { frame } of one.sent.splice(0)) two.handshakes.receive(one.actor.origin, frame)
    for (const { frame } of two.sent.splice(0)) one.handshakes.receive(two.actor.origin, frame)
  }
}

describe('the handshakes of an agent', () => {
  it('end once each, and leave the frames that follow to others', () => {
    const [one, two] = [of(world.member(west)), of(world.member(west))]
    one.handshakes.begin(two.actor.origin, OUT)
    two.handshakes.begin(one.actor.origin, IN)
    carry(one, two)
    for (const side of [one, two])
      assert.deepEqual(
        side.verdicts.map(({ verdict }) => verdict.kind),
        ['accepted']
      )
    assert.equal(one.handshakes.receive(two.actor.origin, new Uint8Array(8)), false)
  })

  it('of a newcomer knock at one member at a time, and at the next when that one has ended', async () => {
    const newcomer = of(world.newcomer(world.invite(seat, 'east')))
    const [first, second] = [of(world.member(west)), of(world.member(west))]
    newcomer.handshakes.begin(first.actor.origin, OUT)
    newcomer.handshakes.begin(second.actor.origin, OUT)
    assert.deepEqual(
      newcomer.sent.map(({ to }) => to),
      [first.actor.origin]
    )
    assert.equal(newcomer.handshakes.receive(second.actor.origin, new Uint8Array(8)), true, 'it waits')
    newcomer.sent.length = 0
    newcomer.handshakes.end(first.actor.origin)
    await turn()
    assert.deepEqual(
      newcomer.sent.map(({ to }) => to),
      [second.actor.origin]
    )
  })

  it('carry the answer to a knock, and drop it when the connection has ended', () => {
    const newcomer = of(world.newcomer(world.invite(seat, 'east')))
    const sponsor = of(world.member(west))
    newcomer.handshakes.begin(sponsor.actor.origin, OUT)
    sponsor.handshakes.begin(newcomer.actor.origin, IN)
    carry(newcomer, sponsor)
    assert.deepEqual(
      sponsor.verdicts.map(({ verdict }) => verdict.kind),
      ['knock']
    )
    const answer = { kind: 'reject', code: 'used', detail: 'it is used', explain: [] } as const
    sponsor.handshakes.answer(newcomer.actor.origin, answer)
    carry(newcomer, sponsor)
    const [outcome] = newcomer.verdicts
    assert.ok(outcome?.verdict.kind === 'refused' && outcome.verdict.byPeer && outcome.verdict.proved)
    sponsor.handshakes.end(newcomer.actor.origin)
    sponsor.handshakes.answer(newcomer.actor.origin, answer)
    assert.equal(sponsor.sent.length, 0)
  })

  it('remember the latest refusal of each peer until it is accepted, and of 256 peers at most', () => {
    const { handshakes } = of(world.member(west))
    const peer = (index: number) => `peer-${index}` as Origin
    for (let index = 0; index < 300; index++)
      handshakes.refused(peer(index), { code: 'clock', detail: `${index}`, byPeer: true })
    assert.equal(handshakes.refusal(peer(43)), undefined)
    assert.equal(handshakes.refusal(peer(44))?.detail, '44')
    handshakes.refused(peer(44), { code: 'used', detail: 'again', byPeer: false })
    assert.equal(handshakes.refusal(peer(44))?.code, 'used')
    handshakes.accepted(peer(44))
    assert.equal(handshakes.refusal(peer(44)), undefined)
  })
})
