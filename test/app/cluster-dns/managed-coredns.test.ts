import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { faultSentence } from '../../../src/app/observe/health.ts'
import { createLog } from '../../../src/app/observe/log.ts'
import { OwnCoredns, SETTLE_MS, type Mesh } from '../../../src/app/cluster-dns/managed-coredns.ts'
import { resolveSettings } from '../../../src/app/settings/settings.ts'
import type { MeshView } from '../../../src/core/view/view.ts'
import { cluster, meshOf } from '../../core/dns/fixtures.ts'

const LOG = createLog({ 'log-level': 'error', 'log-format': 'json' })
const EAST = cluster('east', {})
const WEST = cluster('west', {})
const NORTH = cluster('north', { podPrefixes: ['10.41.0.0/16'], servicePrefixes: ['10.42.0.0/16'] })

describe('own CoreDNS', () => {
  let folder: string
  let path: string
  let mesh: Mesh | undefined

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'own-coredns-'))
    path = join(folder, 'Corefile')
    mesh = whole(meshOf(EAST, WEST))
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  it('has a zone for each cluster, fed by this agent, on the address that was asked for', async () => {
    await owner({ 'corefile-listen': '10.0.0.2:5300', 'dns-upstream': ['10.0.0.10'] }).look(0)
    assert.deepEqual(zones(), ['cluster.east', 'cluster.west', 'cluster.all', '.'])
    assert.match(text(), /^cluster\.east:5300 [\s\S]*^ {4}bind 10\.0\.0\.2$/m)
    assert.match(text(), /^ {8}endpoint http:\/\/127\.0\.0\.1:948\/clusters\/east$/m)
    assert.match(text(), /^ {4}forward \. 10\.0\.0\.10$[\s\S]*^ {4}reload 2s/m)
  })

  it('is written when the clusters change, and for nothing else', async () => {
    const own = owner()
    await own.look(0)
    const { ino } = statSync(path)
    mesh = whole(meshOf(EAST, WEST))
    await own.look(1000)
    assert.equal(statSync(path).ino, ino)
    mesh = whole(meshOf(EAST, WEST, NORTH))
    await own.look(2000)
    assert.deepEqual(zones(), ['cluster.east', 'cluster.west', 'cluster.north', 'cluster.all', '.'])
  })

  it('loses a zone when a cluster has left, but not because it is missing for a moment after a start', async () => {
    await owner().look(0)
    mesh = whole(meshOf(EAST))
    const again = owner()
    await again.look(100_000)
    assert.deepEqual(zones(), ['cluster.east', 'cluster.west', 'cluster.all', '.'])
    // What is new need not wait, where nothing is missing.
    mesh = whole(meshOf(EAST, WEST, NORTH))
    await again.look(101_000)
    assert.ok(zones().includes('cluster.north'))
    mesh = undefined
    await again.look(100_000 + SETTLE_MS - 1)
    assert.ok(zones().includes('cluster.north'))
    await again.look(100_000 + SETTLE_MS)
    assert.deepEqual(zones(), ['.'])
  })

  it('stays as it is while the view may have holes', async () => {
    const own = owner()
    await own.look(0)
    const holes: readonly Mesh[] = [
      { ...whole(meshOf(EAST)), whole: false },
      whole({ ...meshOf(WEST), self: EAST.name })
    ]
    for (const hole of holes) {
      mesh = hole
      await own.look(SETTLE_MS)
      assert.deepEqual(zones(), ['cluster.east', 'cluster.west', 'cluster.all', '.'])
    }
  })

  it('forwards to our responder where there is no feed, or where there are too many clusters for it', async () => {
    const responder = '[fd00::2]:5353'
    mesh = { ...whole(meshOf(EAST, WEST)), responder }
    await owner({ 'feed-listen': 'off' }).look(0)
    assert.match(text(), /^cluster\.east:53 .*cluster\.west:53 .*cluster\.all:53 clusterset\.local:53 \{$/m)
    assert.match(text(), /forward \. \[fd00::2\]:5353 \{/)
    const many = Array.from({ length: 300 }, (_, n) =>
      cluster(`c${n}`, { podPrefixes: [], servicePrefixes: [] })
    )
    mesh = { ...whole(meshOf(EAST, WEST, ...many)), responder }
    await owner().look(0)
    assert.match(text(), /cluster\.c299:53 .*\{\n(.*\n)*? {4}forward \. \[fd00::2\]:5353 \{/)
    assert.doesNotMatch(text(), /kubernetes/)
  })

  it('says what is wrong for as long as it is', async () => {
    const own = owner({ 'feed-listen': 'off' })
    await own.look(0)
    assert.match(
      own.faults.map(faultSentence).join(),
      /^corefile: .*set feed-listen or dns-listen to an address$/
    )
    mesh = { ...whole(meshOf(EAST)), responder: '10.0.0.2:53' }
    mkdirSync(path)
    await own.look(0)
    assert.match(own.faults.map(faultSentence).join(), /cannot be written/)
    rmSync(path, { recursive: true })
    writeFileSync(path, '. {\n    whoami\n}\n')
    await own.look(0)
    assert.match(own.faults.map(faultSentence).join(), /was not written by this agent/)
    rmSync(path)
    await own.look(0)
    assert.deepEqual(own.faults, [])
    assert.throws(() => owner({ 'corefile-listen': 'everywhere' }), { code: 'BAD_SETTING' })
  })

  function owner(flags: Readonly<Record<string, unknown>> = {}): OwnCoredns {
    const settings = resolveSettings({ flags: { corefile: path, ...flags }, env: {}, file: undefined })
    return new OwnCoredns({ settings, mesh: () => mesh, log: LOG })
  }

  function text(): string {
    return readFileSync(path, 'utf8')
  }

  function zones(): readonly string[] {
    return [...text().matchAll(/^(\S+):\d+ .*\{$/gm)].map(([, zone = '']) => zone)
  }
})

function whole(view: MeshView): Mesh {
  return { view, whole: true, responder: undefined }
}
