import assert from 'node:assert/strict'
import { Sponsor } from '../../../src/app/control/sponsor.ts'
import { openCredential } from '../../../src/core/trust/members/credential.ts'
import type { Invite } from '../../../src/core/trust/set/statement.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { type TestInvite, World } from '../../core/trust/set/world.ts'
import { SILENT, trustOf } from './trust-parts.ts'

const world = new World({ crypto: createCrypto(), now: Math.floor(Date.now() / 1000) - 60 })
const seat = world.seat()
const west = world.found('west', ['10.1.0.0/16'])

/** An agent of west at whose door newcomers knock. */
function make({
  isMember = true,
  underlayFault
}: {
  readonly isMember?: boolean
  readonly underlayFault?: (invite: Invite) => Promise<string | undefined>
} = {}) {
  const parts = trustOf(world, [west])
  const { trust } = parts
  const own = openCredential(trust.members.set, world.agent(west, 1).item)
  assert.ok(own.kind === 'credential')
  const sponsor = new Sponsor({
    crypto: world.crypto,
    roots: world.roots,
    clusterSeed: () => west.seed,
    trust,
    log: SILENT,
    credential: () => (isMember ? own : undefined),
    skews: () => new Map(),
    underlayFault: underlayFault ?? (async () => undefined)
  })
  const knock = (invite: TestInvite, seed?: Uint8Array) => {
    const { item: bytes } = world.redeem(invite, seed)
    const item = trust.members.set.open(bytes)
    assert.ok(item.kind === 'item')
    return sponsor.answer({
      kind: 'knock',
      item,
      bytes,
      software: 'rhizome/test',
      peerSeconds: Math.floor(Date.now() / 1000)
    })
  }
  return { ...parts, knock }
}

const codeOf = (answer: Awaited<ReturnType<Sponsor['answer']>>): string =>
  answer.kind === 'admitted' ? 'admitted' : answer.code

describe('the sponsor of newcomers', () => {
  it('has the admission on disk when it answers', async () => {
    const { knock, disk, trust } = make()
    assert.equal(codeOf(await knock(world.invite(seat, 'east'))), 'admitted')
    const [id] = [...trust.members.set.admissions.keys()]
    assert.ok(id !== undefined && disk.has(id))
  })

  it('admits one of two keys that come with one token at the same time', async () => {
    const { knock, trust } = make()
    const invite = world.invite(seat, 'east')
    const answers = await Promise.all([knock(invite), knock(invite), knock(invite)])
    assert.deepEqual(answers.map(codeOf), ['admitted', 'used', 'used'])
    assert.equal(trust.members.set.admissions.size, 1)
  })

  it('gives the same key the same admission again', async () => {
    const { knock, trust } = make()
    const [invite, seed] = [world.invite(seat, 'east'), world.crypto.random(32)]
    const [one, two] = [await knock(invite, seed), await knock(invite, seed)]
    assert.ok(one.kind === 'admitted' && two.kind === 'admitted')
    assert.deepEqual(one.item, two.item)
    assert.equal(trust.members.set.admissions.size, 1)
  })

  it('sends a newcomer to the next member when the disk takes no writes, and admits it when it does', async () => {
    const { knock, state, trust } = make()
    const [invite, seed] = [world.invite(seat, 'east'), world.crypto.random(32)]
    state.isFull = true
    assert.equal(codeOf(await knock(invite, seed)), 'busy')
    assert.equal(trust.members.set.admissions.size, 0)
    state.isFull = false
    assert.equal(codeOf(await knock(invite, seed)), 'admitted')
  })

  it('answers no more than 16 knocks at a time', async () => {
    const { knock } = make()
    const invite = world.invite(seat, 'east')
    const codes = (await Promise.all(Array.from({ length: 18 }, () => knock(invite)))).map(codeOf)
    assert.deepEqual([codes.filter((code) => code === 'busy').length, codes[0]], [2, 'admitted'])
    assert.equal(codeOf(await knock(world.invite(seat, 'north'))), 'admitted', 'and goes on')
  })

  it('refuses prefixes that the networks of hosts use, and admits no cluster while it is no member itself', async () => {
    const seen: string[] = []
    const underlayFault = async ({ cluster }: Invite) => {
      seen.push(cluster)
      return 'prefix 10.2.0.0/16 would hide 10.2.0.1'
    }
    const answer = await make({ underlayFault }).knock(world.invite(seat, 'east', { pods: ['10.2.0.0/16'] }))
    assert.ok(answer.kind === 'reject')
    assert.deepEqual([answer.code, seen], ['underlay', ['east']])
    assert.match(answer.detail, /would hide 10\.2\.0\.1/)
    assert.equal(codeOf(await make({ isMember: false }).knock(world.invite(seat, 'east'))), 'busy')
  })
})
