// Three root keys, of which two must sign, from `init` to a new administrator, on a real agent.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { podCidr, serviceCidr } from '../demo/site.ts'
import { done, raise, refused } from './harness.ts'

describe('the root keys of a mesh, 2of3', function () {
  const { site } = raise('roots', ['west'])
  const west = () => site('west')
  const path = (name: string) => join(west().folder, name)
  const root = (...args: readonly string[]) => west().ctl('root', ...args)
  const seeds: string[] = []

  before(async () => {
    writeFileSync(path('words'), 'correct horse battery staple\n', { mode: 0o600 })
    const prefixes = ['--pod-cidr', podCidr('west'), '--service-cidr', serviceCidr('west')]
    await done(west().ctl('init', '--cluster', 'west', ...prefixes, '--roots', '2of3'))
    const { identity } = JSON.parse(readFileSync(join(west().state, 'identity.json'), 'utf8')) as {
      identity: { rootSeeds: string[] }
    }
    seeds.push(...identity.rootSeeds)
    assert.equal(seeds.length, 3)
  })

  it('go into three files, and from this agent', async () => {
    assert.match(
      await refused(root('forget')),
      /shares 1, 2, 3 are in no file.*meshctl root export --share 1/s
    )
    for (const share of ['1', '2', '3'])
      await done(root('export', path(`root${share}`), '--share', share, '--passphrase-file', path('words')))
    assert.match((await done(root('status'))).stdout, /2 of 3 sign; 3 here, and in files/)
    await done(root('forget'))
    assert.match((await done(root('status'))).stdout, /2 of 3 sign; none here/)
    for (const text of filesBelow(west().state))
      for (const seed of seeds) assert.ok(!text.includes(seed), 'a seed is on the disk')
  })

  it('sign with two of the files, from memory, until the next start', async () => {
    const { stdout } = await done(west().ctl('admin', 'key', '--json'))
    const { adminKey } = JSON.parse(stdout) as { adminKey: string }
    const add = (label: string) => west().ctl('admin', 'add', label, '--key', adminKey, '--root')
    await done(root('import', path('root1'), '--passphrase-file', path('words')))
    assert.match(
      await refused(add('ann')),
      /2 of the 3 root keys must sign, and this agent holds 1\n.*import 1 more/s
    )
    await done(root('import', path('root3'), '--passphrase-file', path('words')))
    await done(add('ann'))
    for (const text of filesBelow(west().state))
      for (const seed of seeds) assert.ok(!text.includes(seed), 'a seed is on the disk')
    await west().stop('SIGTERM')
    await west().start()
    assert.match((await done(root('status'))).stdout, /none here/)
    assert.match((await done(west().ctl('admin', 'list'))).stdout, /ann/)
  })
})

/** The text of each file of a folder, whatever its form. */
function filesBelow(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true })
    .map((name) => join(folder, String(name)))
    .filter((name) => statSync(name).isFile())
    .map((name) => readFileSync(name, 'latin1'))
}
