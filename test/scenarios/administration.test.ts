// What an administrator does after the founding: it shares its right, ends clusters and takes that back, and gives a lost
// cluster's name and prefixes to a new one. Each with real agents and packets.
import assert from 'node:assert/strict'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TrustAnswer } from '../../src/api/trust-answers.ts'
import { eventually } from '../eventually.ts'
import { serviceIp } from '../demo/checks.ts'
import type { Site } from '../demo/site.ts'
import { done, invite, joins, peer, raise, reaches, refused, status, undisturbed, unite } from './harness.ts'

describe('administration', () => {
  const { site } = raise('admin', ['west', 'east', 'edge'])
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

  it('is a right that another cluster has only with a seat, and loses with it', async () => {
    assert.match(await refused(east().ctl('invite', 'north')), /holds no seat of an administrator/)
    const key = (await done(east().ctl('admin', 'key'))).stdout.trim()
    await done(west().ctl('admin', 'add', 'ann', '--key', key, '--names', 'north*'))
    await eventually(async () => {
      assert.equal((await trust(east())).seats.find(({ label }) => label === 'ann')?.own, true)
      return true
    })
    assert.match((await done(east().ctl('invite', 'north'))).stdout, /^rzm2_/)
    assert.match(await refused(east().ctl('invite', 'south')), /no seat of this agent covers the name south/)
    assert.match(
      await refused(east().ctl('remove', 'edge', '--force')),
      /no seat of this agent covers the name edge/
    )
    await done(west().ctl('admin', 'remove', 'ann'))
    await eventually(async () => {
      assert.match(await refused(east().ctl('invite', 'north2')), /holds no seat/)
      return true
    })
  })

  it('ends a cluster on all members, gives its traffic to none, and takes that back', async () => {
    assert.match(await refused(west().ctl('remove', 'edge')), /the tunnel to cluster edge answers now/)
    await undisturbed(west(), east(), async () => {
      await done(west().ctl('remove', 'edge', '--force'))
      for (const other of [west(), east()])
        await eventually(async () => (await peer(other, 'edge')) === undefined)
      await eventually(async () => {
        const { error } = await east().pod(0).tcp(serviceIp.edge, 80, { timeoutMs: 1000 })
        assert.notEqual(error, undefined, 'a pod of east still reaches the removed cluster')
        return true
      })
      const row = (await trust(east())).clusters.find(({ name }) => name === 'edge')
      assert.equal(row?.stands, false)
      assert.match(row.because.join(), /the seat "west" ended the cluster edge/)
      await done(west().ctl('restore', 'edge'))
    })
    await reaches(east(), edge())
  })

  it('gives the name and the prefixes of a cluster whose disk burnt down to a new one', async () => {
    await edge().stop('SIGKILL')
    await done(west().ctl('remove', 'edge', '--force'))
    rmSync(edge().state, { recursive: true })
    await edge().start()
    await joins(edge(), await invite(west(), 'edge'))
    await reaches(west(), edge())
    await reaches(edge(), east())
  })

  it('changes the prefixes of a cluster that is up: it takes them without a restart, also one that was dropped', async () => {
    const grant = (...flags: string[]) => done(west().ctl('grant', 'edge', ...flags))
    const prefixes = async (of: Site) => (await peer(of, 'edge'))?.cidrs.join()
    assert.match(
      await refused(west().ctl('grant', 'edge', '--add-pod-cidr', '203.0.113.0/25')),
      /would hide 203\.0\.113\.1/
    )
    await undisturbed(west(), edge(), async () => {
      await grant('--add-pod-cidr', '10.14.0.0/16')
      for (const each of [west(), east(), edge()])
        await eventually(async () => (await prefixes(each)) === '10.3.0.0/16,10.14.0.0/16,10.103.0.0/16')
      await grant('--drop', '10.14.0.0/16')
      for (const each of [west(), east(), edge()])
        await eventually(async () => (await prefixes(each)) === '10.3.0.0/16,10.103.0.0/16')
      await grant('--add-pod-cidr', '10.14.0.0/16')
      for (const each of [west(), east(), edge()])
        await eventually(async () => (await prefixes(each)) === '10.3.0.0/16,10.14.0.0/16,10.103.0.0/16')
    })
  })

  it('ends one agent by its PeerId, and brings it back', async () => {
    const { peerId = '' } = await status(edge())
    await done(west().ctl('revoke', peerId))
    await eventually(async () => {
      const { error } = await east().pod(0).tcp(serviceIp.edge, 80, { timeoutMs: 1000 })
      assert.notEqual(error, undefined, 'a pod of east still reaches the revoked agent')
      return true
    })
    await done(west().ctl('restore', peerId))
    await reaches(east(), edge())
  })

  it('cancels a token, and refuses it at every door', async () => {
    const token = (
      await done(west().ctl('invite', 'far', '--pod-cidr', '10.77.0.0/16', '--service-cidr', '10.177.0.0/16'))
    ).stdout
    await done(west().ctl('invite', 'cancel', 'far'))
    assert.match(token, /^rzm2_/)
    assert.match(await refused(west().ctl('invite', 'cancel', 'far')), /keeps no open invite of cluster far/)
  })

  it('keeps the root keys in a file, and a leave of the only administrator is refused until then', async () => {
    assert.match(
      await refused(west().ctl('leave', '--yes')),
      /the only administrator’s seat of the mesh and its root keys/
    )
    const key = (await done(east().ctl('admin', 'key'))).stdout.trim()
    await done(west().ctl('admin', 'add', 'north only', '--key', key, '--names', 'north*'))
    assert.match(
      await refused(west().ctl('leave', '--yes')),
      /has the root keys of the mesh, which are in no file/
    )
    const [file, passphrase] = ['root', 'passphrase'].map((name) =>
      join(west().state, '..', `${west().cluster}.${name}`)
    )
    assert.ok(file !== undefined && passphrase !== undefined)
    writeFileSync(passphrase, 'correct horse battery staple\n', { mode: 0o600 })
    await done(west().ctl('root', 'export', file, '--passphrase-file', passphrase))
    assert.ok(existsSync(file))
    const { rootSeeds } = JSON.parse(readFileSync(join(west().state, 'identity.json'), 'utf8')).identity
    assert.deepEqual(rootSeeds, [])
    writeFileSync(passphrase, 'another one that is wrong\n')
    assert.match(
      await refused(west().ctl('root', 'import', file, '--passphrase-file', passphrase)),
      /the passphrase does not open the file/
    )
    writeFileSync(passphrase, 'correct horse battery staple\n')
    await done(west().ctl('root', 'import', file, '--passphrase-file', passphrase))
    assert.equal((await trust(west())).roots.held, 1)
  })
})

async function trust(of: Site): Promise<TrustAnswer> {
  return JSON.parse((await done(of.ctl('trust', 'status', '--json'))).stdout) as TrustAnswer
}
