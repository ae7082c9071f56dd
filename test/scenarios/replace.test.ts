// A cluster's identity is renewed and replaced: its certificates, its key on a new disk, and in place. With real agents and
// packets.
import assert from 'node:assert/strict'
import { renameSync, rmSync, writeFileSync } from 'node:fs'
import type { RoutesAnswer, StatusAnswer } from '../../src/api/answers.ts'
import type { CertRenewedAnswer, ClusterKeyRotatedAnswer } from '../../src/api/membership-answers.ts'
import type { TrustAnswer } from '../../src/api/trust-answers.ts'
import { eventually } from '../eventually.ts'
import type { Site } from '../demo/site.ts'
import { done, joins, look, peer, raise, reaches, refused, undisturbed, unite } from './harness.ts'

describe('replacing a cluster', () => {
  const { site } = raise('replace', ['west', 'east', 'edge'])
  const west = () => site('west')
  const east = () => site('east')
  const edge = () => site('edge')

  before(async () => {
    await unite(west(), east(), edge())
    for (const [from, to] of [
      [west(), east()],
      [edge(), east()],
      [west(), edge()]
    ] as const)
      await reaches(from, to)
  })

  it('cert renew ends no connection and no flow, and the agent comes back with it after a restart', async () => {
    await undisturbed(edge(), west(), async () => {
      for (const generation of [2, 3]) {
        const answer = await west().ask<CertRenewedAnswer>('cert', 'renew')
        assert.deepEqual([answer.before, answer.generation], [generation - 1, generation])
        assert.equal(answer.neighbours, 2)
      }
      assert.equal((await peer(edge(), 'west'))?.connected, true)
    })
    await west().stop('SIGTERM')
    await west().start()
    for (const other of [east(), edge()])
      await eventually(async () => (await peer(other, 'west'))?.connected === true)
    assert.equal((await west().ask<CertRenewedAnswer>('cert', 'renew')).generation, 4)
  })

  it('key rotate --cluster ends no flow, with a seat on it and with a token, and a restart keeps the new key', async () => {
    const rotated = async (of: Site, from: Site, ...args: readonly string[]) => {
      let key = ''
      await undisturbed(from, of, async () => {
        const answer = await of.ask<ClusterKeyRotatedAnswer>('key', 'rotate', '--cluster', ...args)
        key = answer.clusterKey
        for (const other of [west(), east(), edge()])
          await eventually(async () => (await standing(other, answer.cluster)).key === key)
      })
      return key
    }
    const key = await rotated(west(), edge())
    const token = (await done(west().ctl('invite', 'edge', '--replace', '--force'))).stdout.trim()
    const file = `${edge().state}/edge.token`
    writeFileSync(file, token, { mode: 0o600 })
    await rotated(edge(), west(), '--token-file', file)
    rmSync(file)
    await west().stop('SIGKILL')
    await west().start()
    assert.equal((await standing(west(), 'west')).key, key)
    for (const from of [east(), edge()]) await reaches(from, west())
  })

  it('gives name and prefixes to a new disk, and the old key is out on every member', async () => {
    assert.match(await refused(west().ctl('invite', 'far', '--replace')), /no cluster far is known here/)
    assert.match(
      await refused(west().ctl('invite', 'west', '--replace')),
      /west is the cluster of this agent/
    )
    assert.match(
      await refused(west().ctl('invite', 'east', '--replace')),
      /the tunnel to cluster east answers now/
    )
    const token = (await done(west().ctl('invite', 'east', '--replace', '--force'))).stdout.trim()
    assert.equal((await trust(west())).invites[0]?.replaces, 'east')
    const before = await standing(west(), 'east')
    assert.ok(before.stands)
    await undisturbed(west(), edge(), async () => {
      await east().stop('SIGKILL')
      // The old disk is kept: a thief may have it.
      renameSync(east().state, `${east().state}.old`)
      await east().start()
      await joins(east(), token)
      await reaches(west(), east())
      await reaches(edge(), east())
      await reaches(east(), edge())
      for (const other of [west(), edge()]) {
        const rows = (await trust(other)).clusters.filter(({ name }) => name === 'east')
        assert.deepEqual(
          rows.map(({ key, stands, reason }) => [key === before.key, stands, reason]),
          [
            [false, true, 'its invite stands'],
            [true, false, 'another cluster has its place']
          ]
        )
      }
    })
    const { routes } = await look<RoutesAnswer>(west(), 'routes')
    assert.deepEqual(
      routes
        .filter(({ cluster }) => cluster === 'east')
        .map(({ destination, state }) => [destination, state]),
      [
        ['10.2.0.0/16', 'installed'],
        ['10.102.0.0/16', 'installed']
      ]
    )
    assert.deepEqual((await trust(west())).invites, [], 'the invite is closed')
  })

  it('turns the old disk away, which learns why', async () => {
    const fresh = await standing(west(), 'east')
    await east().stop('SIGTERM')
    renameSync(east().state, `${east().state}.new`)
    renameSync(`${east().state}.old`, east().state)
    await east().start()
    await eventually(async () => {
      const { health } = await look<StatusAnswer>(east(), 'status')
      const ended = health?.faults.find(({ code }) => code === 'MEMBERSHIP_ENDED')
      assert.match(ended?.message ?? '', /no member of the mesh any more: another cluster has its place/)
      return true
    })
    assert.equal((await standing(west(), 'east')).key, fresh.key)
    await east().stop('SIGTERM')
    renameSync(east().state, `${east().state}.old`)
    renameSync(`${east().state}.new`, east().state)
    await east().start()
    await reaches(west(), east())
  })
})

async function trust(of: Site): Promise<TrustAnswer> {
  return JSON.parse((await done(of.ctl('trust', 'status', '--json'))).stdout) as TrustAnswer
}

/** The cluster that has this name at an agent. */
async function standing(of: Site, name: string): Promise<TrustAnswer['clusters'][number]> {
  const found = (await trust(of)).clusters.find((cluster) => cluster.name === name && cluster.hasName)
  assert.ok(found, `no cluster has the name ${name}`)
  return found
}
