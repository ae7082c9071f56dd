// What an administrator signs about clusters, agents and invites: each refusal by its code, and each effect on the standing.
import assert from 'node:assert/strict'
import type { ClusterName, Ip } from '../../../src/core/model/values.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import { keyId } from '../../../src/core/trust/set/ids.ts'
import { Office, realWorld } from './office.ts'

/** A mesh of west (of this agent), east, and berlin, which east admitted. */
function mesh(options: { readonly names?: readonly string[] } = {}) {
  const world = realWorld()
  const seat = world.seat({ names: options.names ?? ['*'] })
  const roots = world.seat()
  const west = world.found('west', ['10.1.0.0/16'])
  const east = world.join(roots, west, 1, 'east', { pods: ['10.2.0.0/16'], services: ['10.102.0.0/16'] })
  const berlin = world.join(roots, east, 2, 'berlin', { pods: ['10.3.0.0/16'] })
  return { world, seat, roots, west, east, berlin, things: [seat, roots, east, berlin] }
}

/** An agent of west with the seat. */
function office(parts = mesh(), more: Partial<ConstructorParameters<typeof Office>[0]> = {}): Office {
  const { world, west, things, seat } = parts
  return new Office({ world, own: west, things, seats: [seat], ...more })
}

/** Expects an AppError with this code and a fix, and that nothing was signed. */
async function refuses(agent: Office, code: string, act: () => Promise<unknown>): Promise<void> {
  const before = [...agent.trust.members.set.ids()]
  await assert.rejects(act, (error: { code?: string; fix?: string }) => {
    assert.equal(error.code, code)
    assert.ok(error.fix, 'an error without a fix')
    return true
  })
  assert.deepEqual([...agent.trust.members.set.ids()], before)
}

/** Every request that signs by a seat about the cluster of this name. */
function requestsAbout(agent: Office, cluster: string): Record<string, () => Promise<unknown>> {
  const { administration } = agent
  return {
    remove: () => administration.remove({ cluster, force: true }),
    revoke: () => administration.revoke({ name: cluster }),
    restore: () => administration.restore({ cluster }),
    decide: () => administration.decide({ name: cluster, key: '' }),
    grant: () =>
      administration.grant({ cluster, addPodCidrs: ['10.9.0.0/16'], addServiceCidrs: [], dropCidrs: [] })
  }
}

describe('each request of an administrator', () => {
  const every = ['remove', 'revoke', 'restore', 'decide', 'grant'] as const
  for (const request of every) {
    const of = (agent: Office, cluster: string) => requestsAbout(agent, cluster)[request] ?? assert.fail()

    it(`${request}: NOT_JOINED in no mesh`, async () => {
      const agent = office(mesh(), { isJoined: false })
      await refuses(agent, 'NOT_JOINED', of(agent, 'east'))
    })

    it(`${request}: UNKNOWN_CLUSTER for a name that no key bears`, async () => {
      const agent = office()
      await refuses(agent, 'UNKNOWN_CLUSTER', of(agent, 'south'))
    })

    // `restore` looks at the keys that were ended alone.
    if (request !== 'restore')
      it(`${request}: AMBIGUOUS_CLUSTER for a name that two keys bear, with both keys in its text`, async () => {
        const parts = mesh()
        const { world, roots, west } = parts
        const invite = world.invite(roots, 'twin')
        const [one, two] = [world.admit(invite, west, 3), world.admit(invite, west, 4)]
        const agent = office(parts, { things: [...parts.things, one, two] })
        await refuses(agent, 'AMBIGUOUS_CLUSTER', of(agent, 'twin'))
        await assert.rejects(of(agent, 'twin'), (error: Error) =>
          [one, two].every(({ key }) => error.message.includes(key.slice(0, 16)))
        )
      })

    it(`${request}: NO_SEAT without a seat, and with one that has fallen`, async () => {
      const parts = mesh()
      const bar = parts.world.bar({ seat: parts.roots }, parts.east)
      const things = [...parts.things, ...(request === 'restore' ? [bar] : [])]
      const none = office(parts, { seats: [], things })
      await refuses(none, 'NO_SEAT', of(none, 'east'))
      const fallen = office(parts, { things: [...things, parts.world.void('roots', parts.seat)] })
      await refuses(fallen, 'NO_SEAT', of(fallen, 'east'))
    })

    it(`${request}: SEAT_EXCEEDED when no seat covers the name`, async () => {
      const parts = mesh({ names: ['b*'] })
      const bar = parts.world.bar({ seat: parts.roots }, parts.east)
      const agent = office(parts, { things: [...parts.things, ...(request === 'restore' ? [bar] : [])] })
      await refuses(agent, 'SEAT_EXCEEDED', of(agent, 'east'))
    })

    it(`${request}: is refused by a disk that takes no writes, and changes nothing`, async () => {
      const parts = mesh()
      const bar = parts.world.bar({ seat: parts.roots }, parts.east)
      const agent = office(parts, { things: [...parts.things, ...(request === 'restore' ? [bar] : [])] })
      const before = [...agent.trust.members.set.ids()]
      agent.fillDisk(true)
      await assert.rejects(of(agent, 'east'), /the disk is full/)
      assert.deepEqual([...agent.trust.members.set.ids()], before)
    })
  }
})

describe('remove', () => {
  it('ends a cluster, and keeps what it admitted; the bar is on disk when the answer comes', async () => {
    const parts = mesh()
    const agent = office(parts)
    const { notes: _, ...answer } = await agent.administration.remove({ cluster: 'east', force: false })
    assert.deepEqual(answer, {
      done: 'removed the cluster east: its name and prefixes are free',
      neighbours: 2
    })
    assert.deepEqual([agent.stands(parts.east), agent.stands(parts.berlin)], [false, true])
    assert.equal(agent.standingOf(parts.east).verdict.rule, 'S5')
    assert.equal(agent.owner('east'), undefined)
    const [bar, ...others] = agent.statements('bar')
    assert.ok(bar !== undefined && others.length === 0 && agent.disk.has(bar.id))
    assert.equal(bar.keepOnly, undefined)
  })

  it('STILL_ALIVE while a probe is answered, but for --force', async () => {
    const parts = mesh()
    const agent = office(parts)
    agent.meet(parts.world, parts.east)
    await refuses(agent, 'STILL_ALIVE', () => agent.administration.remove({ cluster: 'east', force: false }))
    await assert.rejects(agent.administration.remove({ cluster: 'east', force: false }), {
      fix: /--force .*when its agent is gone/
    })
    await agent.administration.remove({ cluster: 'east', force: true })
    assert.equal(agent.stands(parts.east), false)
  })

  it('needs no --force when no tunnel to its gateways answers', async () => {
    const parts = mesh()
    const agent = office(parts)
    agent.meet(parts.world, parts.east, 'down')
    await agent.administration.remove({ cluster: 'east', force: false })
    assert.equal(agent.stands(parts.east), false)
  })

  it('OWN_CLUSTER for the cluster of this agent, also with --force', async () => {
    const agent = office()
    await refuses(agent, 'OWN_CLUSTER', () => agent.administration.remove({ cluster: 'west', force: true }))
  })

  it('of a name that was given anew means the cluster that has it now', async () => {
    const parts = mesh()
    const { world, roots, west } = parts
    const [bar, next] = [world.bar({ seat: roots }, parts.east), world.join(roots, west, 3, 'east')]
    const agent = office(parts, { things: [...parts.things, bar, next] })
    await agent.administration.remove({ cluster: 'east', force: false })
    assert.deepEqual([agent.stands(parts.east), agent.stands(next)], [false, false])
    assert.deepEqual(agent.statements('bar').at(-1)?.target, { cluster: next.key })
  })
})

describe('revoke', () => {
  it('keeps the clusters that it admitted and that are known here; later ones fall', async () => {
    const parts = mesh()
    const { world, roots, east } = parts
    const agent = office(parts)
    const { done } = await agent.administration.revoke({ name: 'east' })
    assert.match(done, /of the clusters that it admitted, the 1 that are known here stay/)
    const thief = world.join(roots, east, 3, 'bremen')
    agent.learn([thief])
    assert.deepEqual(
      [east, parts.berlin, thief].map((cluster) => agent.stands(cluster)),
      [false, true, false]
    )
    assert.equal(agent.standingOf(thief).verdict.rule, 'S3')
  })

  it('does not keep what has fallen already', async () => {
    const parts = mesh()
    const { world, roots, east, berlin } = parts
    const taken = world.void(roots, berlin.id)
    const agent = office(parts, { things: [...parts.things, taken] })
    assert.equal(agent.stands(berlin), false)
    const { done } = await agent.administration.revoke({ name: 'east' })
    assert.match(done, /the 0 that are known here stay/)
    assert.deepEqual([...(agent.statements('bar')[0]?.keepOnly ?? ['none'])], [])
    assert.equal(agent.stands(east), false)
  })

  it('says which seats of others stay, since a holder may work in the cluster', async () => {
    const parts = mesh()
    const agent = office(parts)
    const { notes } = await agent.administration.revoke({ name: 'east' })
    assert.match(notes?.join() ?? '', /holds the seat of .*meshctl admin remove/)
    const alone = office(parts, { seats: [parts.seat, parts.roots] })
    assert.equal((await alone.administration.revoke({ name: 'east' })).notes, undefined)
  })

  it('OWN_CLUSTER for the cluster of this agent', async () => {
    const agent = office()
    await refuses(agent, 'OWN_CLUSTER', () => agent.administration.revoke({ name: 'west' }))
  })

  it('ends one agent of another cluster by a seat; the others of that cluster stand', async () => {
    const parts = mesh()
    const agent = office(parts)
    const [one, two] = [agent.meet(parts.world, parts.east), agent.meet(parts.world, parts.east)]
    const { done } = await agent.administration.revoke({ name: one })
    assert.equal(done, `revoked the agent ${one} of cluster east`)
    const { members } = agent.trust
    assert.deepEqual(
      [members.isAdmitted(one), members.isAdmitted(two), agent.stands(parts.east)],
      [false, true, true]
    )
    const verdict = members.verdictOn(one)
    assert.ok(verdict.kind === 'fallen' && verdict.code === 'barred')
    assert.ok('seat' in (agent.statements('bar')[0]?.by ?? {}))
  })

  it('ends one agent of its own cluster by the cluster key, without a seat', async () => {
    const parts = mesh()
    const agent = office(parts, { seats: [] })
    const other = agent.meet(parts.world, parts.west)
    await agent.administration.revoke({ name: other })
    assert.equal(agent.trust.members.isAdmitted(other), false)
    assert.equal(agent.trust.members.isAdmitted(agent.origin), true)
    assert.deepEqual(agent.statements('bar')[0]?.by, { cluster: parts.west.key })
  })

  it('ends one that has the key of the cluster, or may ask for it, before it has connected', async () => {
    const parts = mesh()
    const agent = office(parts, { seats: [] })
    const key = parts.world.crypto.publicKeyOf(parts.world.crypto.random(32))
    agent.invited.add(originOf(key))
    await agent.administration.revoke({ name: originOf(key) })
    assert.deepEqual(
      agent.statements('bar').map(({ by, target }) => [by, target]),
      [[{ cluster: parts.west.key }, { agent: keyId(key) }]]
    )
  })

  it('UNKNOWN_AGENT for a PeerId without a credential, and for one that was revoked before', async () => {
    const parts = mesh()
    const agent = office(parts)
    const stranger = originOf(parts.world.crypto.publicKeyOf(parts.world.crypto.random(32)))
    await refuses(agent, 'UNKNOWN_AGENT', () => agent.administration.revoke({ name: stranger }))
    const one = agent.meet(parts.world, parts.east)
    await agent.administration.revoke({ name: one })
    await refuses(agent, 'UNKNOWN_AGENT', () => agent.administration.revoke({ name: one }))
  })

  it('OWN_AGENT for this agent itself', async () => {
    const agent = office()
    await refuses(agent, 'OWN_AGENT', () => agent.administration.revoke({ name: agent.origin }))
  })

  it('of an agent of another cluster: NO_SEAT, and SEAT_EXCEEDED where the cluster’s name is not covered', async () => {
    const parts = mesh({ names: ['b*'] })
    const narrow = office(parts)
    const one = narrow.meet(parts.world, parts.east)
    await refuses(narrow, 'SEAT_EXCEEDED', () => narrow.administration.revoke({ name: one }))
    const none = office(parts, { seats: [] })
    const two = none.meet(parts.world, parts.east)
    await refuses(none, 'NO_SEAT', () => none.administration.revoke({ name: two }))
  })
})

describe('restore', () => {
  it('takes back every bar: of this seat, of another one, and of the cluster itself', async () => {
    const parts = mesh()
    const { world, roots, east } = parts
    const agent = office(parts, {
      things: [...parts.things, world.bar({ seat: roots }, east), world.bar({ cluster: east }, east)]
    })
    await agent.administration.remove({ cluster: 'east', force: false })
    assert.equal(agent.trust.members.standing().barsOf(east.key).length, 3)
    const { done } = await agent.administration.restore({ cluster: 'east' })
    assert.equal(done, 'restored the cluster east')
    assert.deepEqual([agent.stands(east), agent.owner('east')], [true, east.key])
    assert.equal(agent.statements('void').length, 3)
  })

  it('gives back what a revocation took, also from the clusters that it had admitted', async () => {
    const parts = mesh()
    const agent = office(parts)
    await agent.administration.revoke({ name: 'east' })
    const thief = parts.world.join(parts.roots, parts.east, 3, 'bremen')
    agent.learn([thief])
    await agent.administration.restore({ cluster: 'east' })
    assert.deepEqual([agent.stands(parts.east), agent.stands(thief)], [true, true])
  })

  it('brings an agent back by its PeerId, whether a seat or its own cluster has ended it', async () => {
    const parts = mesh()
    const agent = office(parts)
    const [own, other] = [agent.meet(parts.world, parts.west), agent.meet(parts.world, parts.east)]
    for (const name of [own, other]) {
      await agent.administration.revoke({ name })
      assert.equal(agent.trust.members.isAdmitted(name), false)
      const { done } = await agent.administration.restore({ cluster: name })
      assert.equal(done, `restored the agent ${name}`)
      await refuses(agent, 'NOT_BARRED', () => agent.administration.restore({ cluster: name }))
      const verdict = agent.trust.members.verdictOn(name)
      assert.notEqual(verdict.kind, 'fallen')
    }
  })

  it('SEAT_EXCEEDED for an agent that another administrator has ended', async () => {
    const parts = mesh()
    const agent = office(parts)
    const other = agent.meet(parts.world, parts.east)
    await agent.administration.revoke({ name: other })
    const [bar] = agent.statements('bar')
    const second = office({ ...parts }, { seats: [parts.roots], things: parts.things })
    await second.trust.add([agent.trust.members.set.itemOf(bar?.id ?? assert.fail()) ?? assert.fail()])
    await refuses(second, 'SEAT_EXCEEDED', () => second.administration.restore({ cluster: other }))
  })

  it('means the key that a seat ended before one that has left, and wants --key for one of two', async () => {
    const parts = mesh()
    const { world, roots, west } = parts
    const [left, one, two] = [3, 4, 5].map((seen) => world.join(roots, west, seen, 'south'))
    assert.ok(left && one && two)
    const agent = office(parts, {
      things: [
        ...parts.things,
        left,
        one,
        world.bar({ cluster: left }, left),
        world.bar({ seat: roots }, one)
      ]
    })
    await agent.administration.restore({ cluster: 'south' })
    assert.equal(agent.owner('south'), one.key)
    await agent.administration.remove({ cluster: 'south', force: true })
    agent.learn([two])
    await agent.administration.remove({ cluster: 'south', force: true })
    await refuses(agent, 'AMBIGUOUS_CLUSTER', () => agent.administration.restore({ cluster: 'south' }))
    await agent.administration.restore({ cluster: 'south', key: two.key.slice(0, 16) })
    assert.equal(agent.owner('south'), two.key)
  })

  it('NOT_BARRED for a cluster that stands', async () => {
    const agent = office()
    await refuses(agent, 'NOT_BARRED', () => agent.administration.restore({ cluster: 'east' }))
  })
})

describe('decide', () => {
  it('gives a name that two keys bear to one of them; the other has it no more', async () => {
    const parts = mesh()
    const { world, roots, west } = parts
    const invite = world.invite(roots, 'twin', { pods: ['10.4.0.0/16'] })
    const [one, two] = [world.admit(invite, west, 3), world.admit(invite, west, 4)]
    const agent = office(parts, { things: [...parts.things, one, two] })
    assert.equal(agent.owner('twin'), one.key)
    const { done } = await agent.administration.decide({ name: 'twin', key: two.key.slice(0, 16) })
    assert.equal(done, `gave the name twin to the key ${two.key.slice(0, 16)}`)
    assert.equal(agent.owner('twin'), two.key)
    assert.deepEqual([agent.pods(one), agent.pods(two)], [[], ['10.4.0.0/16']])
    await agent.administration
      .remove({ cluster: 'twin', force: false })
      .catch((error: { code: string }) => assert.equal(error.code, 'AMBIGUOUS_CLUSTER'))
  })

  it('adopts a cluster whose invite fell with its administrator', async () => {
    const parts = mesh()
    const { world, roots, east } = parts
    const agent = office(parts, { things: [...parts.things, world.void('roots', roots)] })
    assert.equal(agent.stands(east), false)
    await agent.administration.decide({ name: 'east', key: east.key })
    assert.deepEqual([agent.stands(east), agent.owner('east')], [true, east.key])
    assert.equal(agent.trust.members.standing().admissions.get(east.id)?.rule, 'S4')
  })

  it('UNKNOWN_CLUSTER for a key that does not bear the name', async () => {
    const parts = mesh()
    const agent = office(parts)
    const { key } = parts.berlin
    await refuses(agent, 'UNKNOWN_CLUSTER', () => agent.administration.decide({ name: 'east', key }))
    await assert.rejects(agent.administration.decide({ name: 'east', key }), /with the key/)
  })

  it('BARRED for a key that a bar ends, since a bar comes before a decision', async () => {
    const parts = mesh()
    const agent = office(parts)
    await agent.administration.remove({ cluster: 'east', force: false })
    await refuses(agent, 'BARRED', () => agent.administration.decide({ name: 'east', key: parts.east.key }))
  })
})

describe('grant', () => {
  const change = { addPodCidrs: [], addServiceCidrs: [], dropCidrs: [] }

  it('adds prefixes and drops others', async () => {
    const parts = mesh()
    const agent = office(parts)
    await agent.administration.grant({
      ...change,
      cluster: 'east',
      addPodCidrs: ['10.12.0.0/16'],
      addServiceCidrs: ['10.112.0.0/16'],
      dropCidrs: ['10.2.0.0/16']
    })
    assert.deepEqual(agent.pods(parts.east), ['10.12.0.0/16'])
    assert.deepEqual(agent.services(parts.east), ['10.102.0.0/16', '10.112.0.0/16'])
  })

  it('BAD_ARGUMENT for nothing to change, a malformed prefix, and one beyond the rights of the seat', async () => {
    const world = realWorld()
    const seat = world.seat({ prefixes: ['10.0.0.0/8'] })
    const west = world.found('west')
    const agent = new Office({
      world,
      own: west,
      things: [seat, world.join(seat, west, 1, 'east')],
      seats: [seat]
    })
    const grant = (more: object) => () => agent.administration.grant({ ...change, cluster: 'east', ...more })
    await refuses(agent, 'BAD_ARGUMENT', grant({}))
    await refuses(agent, 'BAD_ARGUMENT', grant({ addPodCidrs: ['10.2.0.1/16'] }))
    await refuses(agent, 'BAD_ARGUMENT', grant({ dropCidrs: ['ten'] }))
    await refuses(agent, 'BAD_ARGUMENT', grant({ addServiceCidrs: ['172.20.0.0/16'] }))
    await assert.rejects(grant({ addServiceCidrs: ['172.20.0.0/16'] }), /172\.20\.0\.0\/16/)
  })

  it('PREFIX_OVERLAP for what another cluster has, and for pods and services of one cluster that overlap', async () => {
    const parts = mesh()
    const agent = office(parts)
    const grant = (more: object) => () => agent.administration.grant({ ...change, cluster: 'east', ...more })
    await refuses(agent, 'PREFIX_OVERLAP', grant({ addPodCidrs: ['10.3.0.0/24'] }))
    await refuses(agent, 'PREFIX_OVERLAP', grant({ addServiceCidrs: ['10.0.0.0/8'] }))
    await refuses(agent, 'PREFIX_OVERLAP', grant({ addPodCidrs: ['10.102.5.0/24'] }))
    await refuses(
      agent,
      'PREFIX_OVERLAP',
      grant({ addPodCidrs: ['10.12.0.0/16'], addServiceCidrs: ['10.12.5.0/24'] })
    )
    await assert.rejects(grant({ addPodCidrs: ['10.3.0.0/24'] }), /10\.3\.0\.0\/16 of cluster berlin/)
  })

  it('PREFIX_HIDES for a prefix with the address of a gateway, and not for one of its own gateways', async () => {
    const agent = office()
    agent.outers = [{ ip: '10.12.0.9' as Ip, cluster: 'berlin' as ClusterName, node: 'gw' }]
    const grant = (cluster: string) => () =>
      agent.administration.grant({ ...change, cluster, addPodCidrs: ['10.12.0.0/16'] })
    await refuses(agent, 'PREFIX_HIDES', grant('east'))
    await grant('berlin')()
  })

  it('BAD_ARGUMENT for a drop of a prefix that the cluster has not, with those that it has', async () => {
    const agent = office()
    const drop = { ...change, cluster: 'east', dropCidrs: ['10.77.0.0/16'] }
    await refuses(agent, 'BAD_ARGUMENT', () => agent.administration.grant(drop))
  })

  it('BAD_ARGUMENT for a drop of the last pod prefix, unless another is added', async () => {
    const parts = mesh()
    const agent = office(parts)
    const drop = { ...change, cluster: 'east', dropCidrs: ['10.2.0.0/16'] }
    await refuses(agent, 'BAD_ARGUMENT', () => agent.administration.grant(drop))
    await agent.administration.grant({ ...drop, addPodCidrs: ['10.12.0.0/16'] })
    assert.deepEqual(agent.pods(parts.east), ['10.12.0.0/16'])
  })

  it('gives a prefix back that was dropped, and keeps what the same grant said else', async () => {
    const parts = mesh()
    const agent = office(parts)
    const grant = (more: object) => agent.administration.grant({ ...change, cluster: 'east', ...more })
    await grant({ addPodCidrs: ['10.12.0.0/16', '10.13.0.0/16'] })
    await grant({ addPodCidrs: ['10.14.0.0/16'], dropCidrs: ['10.2.0.0/16', '10.13.0.0/16'] })
    assert.deepEqual(agent.pods(parts.east), ['10.12.0.0/16', '10.14.0.0/16'])
    await refuses(agent, 'BAD_ARGUMENT', () => grant({ addPodCidrs: ['10.2.7.0/24'] }))
    await grant({ addPodCidrs: ['10.2.0.0/16'] })
    assert.deepEqual(agent.pods(parts.east), ['10.2.0.0/16', '10.12.0.0/16', '10.14.0.0/16'])
  })
})

describe('cancel', () => {
  it('voids the open invites of a cluster, and forgets them when the Void is on disk', async () => {
    const parts = mesh()
    const { world, seat } = parts
    const [one, two, other] = [
      world.invite(seat, 'far'),
      world.invite(seat, 'far'),
      world.invite(seat, 'near')
    ]
    const agent = office(parts, { invites: [one, two, other] })
    const { done } = await agent.administration.cancel({ cluster: 'far' })
    assert.equal(done, 'cancelled the invite of cluster far')
    assert.deepEqual(
      agent
        .statements('void')
        .map(({ target }) => target)
        .sort(),
      [one.id, two.id].sort()
    )
    assert.deepEqual(
      agent.identity?.invites?.map(({ cluster }) => cluster),
      ['near']
    )
    const late = world.admit(one, parts.west, 3)
    agent.learn([late])
    assert.equal(agent.stands(late), false, 'a cluster that a member lets in by the cancelled token')
  })

  it('keeps the invite when the Void could not be written', async () => {
    const parts = mesh()
    const agent = office(parts, { invites: [parts.world.invite(parts.seat, 'far')] })
    agent.fillDisk(true)
    await assert.rejects(agent.administration.cancel({ cluster: 'far' }), /the disk is full/)
    assert.equal(agent.identity?.invites?.length, 1)
  })

  it('signs by a seat that covers the name, not by the first one', async () => {
    const parts = mesh({ names: ['b*'] })
    const { world, seat, roots } = parts
    const invite = world.invite(roots, 'far')
    const agent = office(parts, { seats: [seat, roots], invites: [invite] })
    await agent.administration.cancel({ cluster: 'far' })
    const late = world.admit(invite, parts.west, 3)
    agent.learn([late])
    assert.equal(agent.stands(late), false)
  })

  it('NO_INVITE for a cluster that this agent has not invited', async () => {
    const agent = office()
    await refuses(agent, 'NO_INVITE', () => agent.administration.cancel({ cluster: 'far' }))
  })

  it('INVITE_USED after a cluster has joined by it: its Void would end that cluster', async () => {
    const parts = mesh()
    const { world, seat, west } = parts
    const invite = world.invite(seat, 'far')
    const far = world.admit(invite, west, 3)
    const agent = office(parts, { things: [...parts.things, far], invites: [invite] })
    await refuses(agent, 'INVITE_USED', () => agent.administration.cancel({ cluster: 'far' }))
    assert.ok(agent.stands(far))
  })

  it('of a used and an open invite takes back the open one', async () => {
    const parts = mesh()
    const { world, seat, west } = parts
    const [used, open] = [world.invite(seat, 'far'), world.invite(seat, 'far')]
    const far = world.admit(used, west, 3)
    const agent = office(parts, { things: [...parts.things, far], invites: [used, open] })
    await agent.administration.cancel({ cluster: 'far' })
    assert.deepEqual(
      agent.statements('void').map(({ target }) => target),
      [open.id]
    )
    assert.ok(agent.stands(far))
  })

  it('NO_SEAT when the seat has fallen, SEAT_EXCEEDED when the one that is left does not cover the name', async () => {
    const parts = mesh({ names: ['b*'] })
    const { world, roots, seat } = parts
    const invites = [world.invite(roots, 'far')]
    const things = [...parts.things, world.void('roots', roots)]
    const none = office(parts, { seats: [roots], invites, things })
    await refuses(none, 'NO_SEAT', () => none.administration.cancel({ cluster: 'far' }))
    const narrow = office(parts, { seats: [roots, seat], invites, things })
    await refuses(narrow, 'SEAT_EXCEEDED', () => narrow.administration.cancel({ cluster: 'far' }))
  })

  it('NOT_JOINED in no mesh', async () => {
    const agent = office(mesh(), { isJoined: false })
    await refuses(agent, 'NOT_JOINED', () => agent.administration.cancel({ cluster: 'far' }))
  })
})
