// `meshctl restore` where no seat of this agent has the right, and what it says of a cluster that is not as it was before.
import assert from 'node:assert/strict'
import { Office, realWorld } from './office.ts'

/** West (of this agent) with a seat, a sibling seat "ann", and east with an agent that ann has revoked. */
async function revokedByAnn(more: Partial<ConstructorParameters<typeof Office>[0]> = {}) {
  const world = realWorld({ roots: 2, k: 2 })
  const [seat, ann] = [world.seat(), world.seat()]
  const west = world.found('west')
  const east = world.join(seat, west, 1, 'east', { pods: ['10.2.0.0/16'] })
  const things = [seat, ann, east]
  const hostile = new Office({ world, own: west, things, seats: [ann] })
  const agent = new Office({ world, own: west, things, seats: [seat], ...more })
  const victim = agent.meet(world, east)
  hostile.trust.members.admit(victim, agent.trust.members.credentialOf(victim) ?? assert.fail())
  await hostile.administration.revoke({ name: victim })
  const bar = hostile.statements('bar')[0] ?? assert.fail()
  const item = hostile.trust.members.set.itemOf(bar.id) ?? assert.fail()
  agent.learn([{ id: bar.id, item, envelopes: [] }])
  assert.equal(agent.trust.members.isAdmitted(victim), false)
  return { world, seat, ann, west, east, agent, victim }
}

describe('restore, with the root keys', () => {
  it('takes back what an administrator signed who was removed since, when enough of them are here', async () => {
    const { agent, victim, ann } = await revokedByAnn({ hasRoot: true })
    await agent.administrators.remove({ seat: ann.id, force: false })
    assert.equal(agent.trust.members.isAdmitted(victim), false, 'the removal keeps the bar')
    await agent.administration.restore({ cluster: victim })
    assert.equal(agent.trust.members.isAdmitted(victim), true)
    assert.equal(agent.statements('void').at(-1)?.under, undefined)
  })

  it('is refused with the way to them while fewer are here than must sign', async () => {
    const { agent, victim } = await revokedByAnn()
    const { rootSeeds } = agent.identity ?? assert.fail()
    assert.deepEqual(rootSeeds, [])
    await assert.rejects(agent.administration.restore({ cluster: victim }), {
      code: 'SEAT_EXCEEDED',
      fix: /meshctl root import <file>/
    })
    const half = await revokedByAnn({ hasRoot: true })
    const { identity } = half.agent
    half.agent.identity = { ...identity, rootSeeds: identity?.rootSeeds?.slice(0, 1) } as never
    await assert.rejects(half.agent.administration.restore({ cluster: half.victim }), {
      code: 'SEAT_EXCEEDED'
    })
    assert.equal(half.agent.trust.members.isAdmitted(half.victim), false)
  })

  it('bring back a cluster without any seat, and a seat that has the right signs before them', async () => {
    const world = realWorld()
    const seat = world.seat()
    const west = world.found('west')
    const east = world.join(seat, west, 1, 'east')
    const things = [seat, east, world.bar({ seat }, east)]
    for (const [seats, under] of [
      [[], undefined],
      [[seat], seat.id]
    ] as const) {
      const agent = new Office({ world, own: west, things, seats, hasRoot: true })
      await agent.administration.restore({ cluster: 'east' })
      assert.equal(agent.stands(east), true)
      assert.equal(agent.statements('void')[0]?.under, under)
    }
  })
})

describe('restore of a cluster', () => {
  it('says who has its name meanwhile, and how it gets the name back', async () => {
    const world = realWorld()
    const seat = world.seat()
    const west = world.found('west')
    const old = world.join(seat, west, 1, 'east')
    const next = world.join(seat, west, 2, 'east')
    const agent = new Office({ world, own: west, things: [seat, old], seats: [seat] })
    await agent.administration.remove({ cluster: 'east', force: true })
    agent.learn([next])
    assert.equal(agent.owner('east'), next.key)
    const { notes } = await agent.administration.restore({ cluster: 'east' })
    assert.match(
      notes?.join() ?? '',
      new RegExp(`${next.key.slice(0, 16)}.*keeps it.*meshctl decide east ${old.key.slice(0, 16)}`)
    )
    assert.equal(agent.owner('east'), next.key, 'what works goes on')
    await agent.administration.decide({ name: 'east', key: old.key })
    assert.equal(agent.owner('east'), old.key)
  })

  it('says that it is no member all the same when another key has its place', async () => {
    const world = realWorld()
    const seat = world.seat()
    const west = world.found('west')
    const old = world.join(seat, west, 1, 'east')
    const next = world.admit(world.invite(seat, 'east', { replaces: old }), west, 2)
    const things = [seat, old, world.bar({ cluster: old }, old), next]
    const agent = new Office({ world, own: west, things, seats: [seat] })
    const { notes } = await agent.administration.restore({ cluster: 'east', key: old.key })
    assert.match(notes?.join() ?? '', /no member all the same: another cluster has its place/)
    assert.equal(agent.stands(next), true)
  })

  it('that is as it was before says nothing more', async () => {
    const world = realWorld()
    const seat = world.seat()
    const west = world.found('west')
    const east = world.join(seat, west, 1, 'east')
    const agent = new Office({ world, own: west, things: [seat, east], seats: [seat] })
    await agent.administration.remove({ cluster: 'east', force: true })
    assert.equal((await agent.administration.restore({ cluster: 'east' })).notes, undefined)
  })
})
