// A cluster whose disk burns comes back from its backup, with packets; and the same backup, restored elsewhere while the
// cluster runs, disturbs neither.
import assert from 'node:assert/strict'
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { PeersAnswer } from '../../src/api/answers.ts'
import type { RestoredAnswer } from '../../src/api/membership-answers.ts'
import { eventually } from '../eventually.ts'
import type { Site } from '../demo/site.ts'
import { done, invite, joins, look, raise, reaches, refused, status, unite } from './harness.ts'

describe('a backup', () => {
  const { site } = raise('backup', ['west', 'east', 'edge'])
  const west = () => site('west')
  const east = () => site('east')
  const edge = () => site('edge')
  const path = (name: string) => join(west().state, '..', name)
  const pass = () => ['--passphrase-file', path('passphrase')]

  const create = (of: Site) => done(of.ctl('backup', 'create', path(`${of.cluster}.backup`), ...pass()))
  const restore = async (to: Site, cluster: string) =>
    JSON.parse(
      (await done(to.ctl('backup', 'restore', path(`${cluster}.backup`), ...pass(), '--json'))).stdout
    ) as RestoredAnswer
  const gateways = async (at: Site, cluster: string) =>
    (await look<PeersAnswer>(at, 'peers')).peers
      .filter((row) => row.cluster === cluster && row.state !== 'self')
      .map(({ peerId }) => peerId)

  before(async () => {
    await unite(west(), east())
    writeFileSync(path('passphrase'), 'correct horse battery staple\n', { mode: 0o600 })
    await reaches(west(), east())
    await reaches(east(), west())
  })

  it('is a file for its owner only, which is not overwritten, and opens with its passphrase only', async () => {
    const { stdout } = await create(west())
    await create(east())
    assert.match(stdout, /SHA-256 begins with [0-9a-f]{16}/)
    const file = path('west.backup')
    assert.equal(statSync(file).mode & 0o777, 0o600)
    assert.match(
      await refused(west().ctl('backup', 'create', file, ...pass())),
      /exists, and is not overwritten/
    )
    writeFileSync(path('wrong'), 'another one that is wrong\n')
    assert.match(
      await refused(edge().ctl('backup', 'restore', file, '--passphrase-file', path('wrong'))),
      /the passphrase does not open the backup/
    )
    writeFileSync(path('half.backup'), readFileSync(file, 'utf8').slice(0, 500))
    assert.match(
      await refused(edge().ctl('backup', 'restore', path('half.backup'), ...pass())),
      /the backup is damaged/
    )
    assert.equal((await status(edge())).state, 'unjoined')
  })

  it('brings the founder back after its disk burnt: traffic, seat, and its peers forget the former agent', async () => {
    const former = (await status(west())).peerId
    await west().stop('SIGKILL')
    rmSync(west().state, { recursive: true })
    await west().start()
    assert.equal((await status(west())).state, 'unjoined')
    const answer = await restore(west(), 'west')
    // A slow machine may reach no member in the time of the command; the traffic below shows that it does.
    assert.equal(answer.formerPeerId, former)
    await reaches(west(), east())
    await reaches(east(), west())
    assert.ok(former !== undefined)
    await done(west().ctl('revoke', former))
    await eventually(async () => (await gateways(east(), 'west')).join() === answer.peerId)
    assert.match(await invite(west(), 'edge'), /^rzm2_/)
  })

  it('restored on another host while its agent runs makes a second gateway, which the cluster itself can end', async () => {
    const own = (await status(east())).peerId
    const { peerId } = await restore(edge(), 'east')
    assert.notEqual(peerId, own)
    await eventually(async () => {
      assert.deepEqual(new Set(await gateways(west(), 'east')), new Set([own, peerId]))
      return true
    })
    for (const each of [west(), east(), edge()]) {
      const codes = new Set(((await status(each)).health?.faults ?? []).map(({ code }) => code))
      for (const code of ['IDENTITY_CLONED', 'HANDSHAKE_REFUSED']) assert.ok(!codes.has(code), code)
    }
    assert.equal((await status(east())).state, 'running')
    await done(east().ctl('revoke', peerId))
    await eventually(async () => (await gateways(west(), 'east')).join() === own)
    await reaches(west(), east())
    await reaches(east(), west())
  })

  it('may be older than a member, which the restored agent learns from the others', async () => {
    await edge().stop('SIGKILL')
    rmSync(edge().state, { recursive: true })
    await edge().start()
    await joins(edge(), await invite(west(), 'edge'))
    await reaches(edge(), west())
    await west().stop('SIGKILL')
    rmSync(west().state, { recursive: true })
    await west().start()
    await restore(west(), 'west')
    await reaches(west(), edge())
    await reaches(edge(), west())
    await reaches(edge(), east())
  })
})
