// The way of a connection, over real connections: members meet, a newcomer is let in, and one that falls is turned away.
import assert from 'node:assert/strict'
import type { HandshakeOutcome } from '../../../src/app/control/handshakes.ts'
import type { Control } from '../../../src/app/control/control.ts'
import { eventually } from '../../eventually.ts'
import { call, Controls, dial } from './controls.ts'

describe('the connections of an agent', () => {
  let controls: Controls
  let outcomes: HandshakeOutcome[]
  const heard = { onHandshake: (outcome: HandshakeOutcome) => void outcomes.push(outcome) }

  beforeEach(() => {
    controls = new Controls()
    outcomes = []
  })

  afterEach(() => controls.stop())

  const value = (node: string) => ({
    kind: 'agent' as const,
    node,
    multiaddrs: [],
    wireguardAddresses: [],
    roles: ['gateway' as const]
  })
  const clusters = (control: Control) => [...control.view().clusters.keys()].toSorted()

  it('a newcomer is admitted by the one that it dials, and both tell it to the others', async () => {
    const [c0, c1] = [await controls.startMember(), await controls.startMember()]
    await dial([c1], c0)
    const { world, seat } = controls
    const invite = world.invite(seat, 'new', { pods: ['10.2.0.0/24'] })
    const newcomer = await controls.startNewcomer(invite, heard)
    // Its sponsor's own admission is known to it only after the exchange.
    await dial([newcomer], c1)
    await eventually(() => newcomer.neighbours().includes(c1.origin))
    assert.equal(outcomes.at(-1)?.kind, 'accepted')
    for (const control of [c0, c1, newcomer])
      await eventually(() => control.members.set.admissions.size === 2)
    await eventually(() => newcomer.members.isAdmitted(newcomer.origin))
    assert.equal(newcomer.members.agentOf(newcomer.origin)?.cluster, 'new')
  })

  it('of two newcomers with one token the second is told that it is used', async () => {
    const c0 = await controls.startMember()
    const invite = controls.world.invite(controls.seat, 'new', { pods: ['10.2.0.0/24'] })
    const first = await controls.startNewcomer(invite)
    await dial([first], c0)
    const thief = await controls.startNewcomer(invite, heard)
    call([thief], c0)
    await eventually(() => outcomes.length > 0)
    const [refused] = outcomes
    assert.ok(refused?.kind === 'refused' && refused.byPeer && refused.proved)
    assert.equal(refused.code, 'used')
    assert.equal(c0.refusal(thief.origin)?.code, 'used')
    assert.ok(c0.events.rows().some(({ reason }) => reason.startsWith('handshake used')))
    assert.ok(!c0.neighbours().includes(thief.origin))
    assert.equal(c0.members.set.admissions.size, 1)
  })

  it('a newcomer whose prefixes hide an address of a host is refused', async () => {
    const c0 = await controls.startMember({
      underlayFault: async ({ pods }) => `prefix ${pods[0]?.cidr} would hide 192.0.2.1`
    })
    const invite = controls.world.invite(controls.seat, 'new', { pods: ['192.0.2.0/24'] })
    call([await controls.startNewcomer(invite, heard)], c0)
    await eventually(() => outcomes.length > 0)
    const [refused] = outcomes
    assert.ok(refused?.kind === 'refused')
    assert.equal(refused.code, 'underlay')
    assert.match(refused.detail, /prefix 192\.0\.2\.0\/24 would hide 192\.0\.2\.1/)
    assert.equal(c0.members.set.admissions.size, 0)
  })

  it('a neighbour that falls is turned away by every member, which also drops its records', async () => {
    const [c0, c1, c2] = [
      await controls.startMember(),
      await controls.startMember(),
      await controls.startMember(heard)
    ]
    await dial([c1, c2], c0)
    call([c2], c1)
    await c2.publish([{ key: 'agent', value: value('gw') as never }])
    await eventually(() => [c0, c1].every((control) => clusters(control).includes('c2' as never)))
    const { world, seat, clusters: members } = controls
    const bar = world.bar({ seat }, members[2] ?? assert.fail())
    const began = performance.now()
    await c0.sign([bar.item])
    await eventually(() => !c0.neighbours().includes(c2.origin))
    for (const control of [c0, c1]) await eventually(() => !clusters(control).includes('c2' as never))
    assert.ok(performance.now() - began < 60_000)
    await eventually(() =>
      outcomes.some((outcome) => outcome.kind === 'refused' && outcome.code === 'barred')
    )
    // The refusal brings the bar along; the own admission is known once its sponsor is.
    await eventually(() => c2.members.verdictOn(c2.origin).kind === 'fallen')
    assert.equal(c0.members.isAdmitted(c2.origin), false)
  })

  it('a peer stands once the admission of its sponsor has come, which neither side knew', async () => {
    const { world, seat } = controls
    const c0 = await controls.startMember()
    // The cluster that admitted c1 does not run, and c1 holds its own admission only.
    const sponsor = world.join(seat, controls.founder, 1, 'sponsor')
    controls.clusters[1] = world.join(seat, sponsor, 2, 'c1')
    const late = await controls.startMember(heard)
    call([late], c0)
    await eventually(() => c0.members.verdictOn(late.origin).kind === 'unknown')
    await late.publish([{ key: 'agent', value: value('gw') as never }])
    assert.deepEqual(c0.neighbours(), [])
    await c0.sign([sponsor.item])
    await eventually(() => c0.neighbours().includes(late.origin))
    await eventually(() => late.members.isAdmitted(late.origin))
    await eventually(() => clusters(c0).includes('c1' as never))
  })

  it('a peer that fell before they met is turned away before it is told any record', async () => {
    const [c0, c1] = [await controls.startMember(), await controls.startMember(heard)]
    const { world, seat, clusters: members } = controls
    await c0.sign([world.bar({ seat }, members[1] ?? assert.fail()).item])
    call([c1], c0)
    await eventually(() => outcomes.some((outcome) => outcome.kind === 'refused'))
    assert.equal(c0.neighbours().length, 0)
    assert.equal(c0.refusal(c1.origin)?.code, 'barred')
  })
})
