import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  appendFile,
  chmod,
  mkdir,
  mkdtemp,
  open,
  rename,
  rm,
  symlink,
  unlink,
  writeFile
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Problem } from '../../../src/core/catalog/catalog.ts'
import type { Snapshot } from '../../../src/core/model/values.ts'
import { createManifestSource, type ManifestSource } from '../../../src/io/manifests/manifest-source.ts'
import { FILE_BYTES_MAX } from '../../../src/io/manifests/read-file.ts'
import { eventually, slowness } from '../../eventually.ts'

interface Seen {
  readonly snapshot: Snapshot
  readonly problems: readonly Problem[]
  readonly whole: boolean
}

const service = (name: string, clusterIp = '10.101.0.1') => `apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop }
spec: { clusterIP: ${clusterIp}, ports: [{ name: http, port: 80 }] }
`
const slice = (name: string, ...addresses: string[]) => `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: ${name}-1, namespace: shop, labels: { kubernetes.io/service-name: ${name} } }
addressType: IPv4
ports: [{ name: http, port: 8080 }]
endpoints: [${addresses.map((ip) => `{ addresses: [${ip}] }`).join(', ')}]
`

describe('the manifest folder', () => {
  let folder: string
  let source: ManifestSource
  let seen: Seen[]

  const write = (name: string, text: string) => writeFile(join(folder, name), text)
  const names = (one: Seen) => one.snapshot.services.map(({ name }) => name)
  const latest = () => seen.at(-1) ?? assert.fail('no snapshot yet')

  async function start(path = folder) {
    source = createManifestSource({
      folder: path,
      onSnapshot: (snapshot, problems, { whole }) => {
        seen.push({ snapshot, problems, whole })
      }
    })
    await source.start()
    return latest()
  }

  /** Waits until the latest snapshot is as told; fails with what it is instead. */
  async function until(holds: (one: Seen) => boolean): Promise<Seen> {
    await eventually(() => {
      assert.ok(holds(latest()), JSON.stringify(latest()))
      return true
    })
    return latest()
  }

  /** Apart from services without endpoints. */
  const told = (problems: readonly Problem[]) =>
    problems
      .filter(({ message }) => !/no endpoints/.test(message))
      .map(({ file, level }) => `${file}: ${level}`)

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rhizome-manifests-'))
    seen = []
  })

  afterEach(async () => {
    await source?.stop()
    await rm(folder, { recursive: true, force: true })
  })

  it('is read with all its documents, lists and subfolders', async () => {
    await mkdir(join(folder, 'deep/er'), { recursive: true })
    await write('a.yaml', `---\n${service('web')}---\n${slice('web', '10.1.0.11')}---\n`)
    await write('deep/er/b.yml', service('cart', '10.101.0.2'))
    await write('c.json', JSON.stringify({ kind: 'List', apiVersion: 'v1', items: [] }))
    await write('notes.txt', 'kind: Service')
    await write('.hidden.yaml', service('hidden', '10.101.0.9'))
    const first = await start()
    assert.deepEqual(names(first), ['cart', 'web'])
    assert.equal(first.snapshot.endpointSlices[0]?.endpoints[0]?.addresses[0], '10.1.0.11')
    assert.equal(first.whole, true)
    assert.match(first.problems[0]?.message ?? '', /shop\/cart has no endpoints/)
  })

  it('counts on when one document is malformed, and names file, line and fix', async () => {
    await write('a.yaml', `${service('web')}---\nkind: [Service\n---\n${service('cart', '10.101.0.2')}`)
    await write('b.yaml', service('db', '10.101.0.3'))
    const first = await start()
    assert.ok(names(first).includes('db') && names(first).includes('web'))
    const problem = first.problems.find(({ level }) => level === 'error')
    assert.equal(problem?.file, 'a.yaml')
    assert.match(problem?.where ?? '', /^line [5-8]$/)
    assert.match(problem?.message ?? '', /malformed YAML/)
    assert.ok(problem?.fix)
  })

  it('keeps the last good content of a file in the middle of an edit', async () => {
    await write('a.yaml', service('web') + '---\n' + slice('web', '10.1.0.11'))
    await start()
    await write('a.yaml', service('web') + '---\nkind: {')
    const broken = await until(({ problems }) => problems.length > 0)
    assert.deepEqual(names(broken), ['web'])
    assert.equal(broken.snapshot.endpointSlices.length, 1)
    assert.match(broken.problems[0]?.message ?? '', /last good content is still used/)
    await write('a.yaml', service('web') + '---\n' + slice('web', '10.1.0.12'))
    const healed = await until(({ problems }) => problems.length === 0)
    assert.equal(healed.snapshot.endpointSlices[0]?.endpoints[0]?.addresses[0], '10.1.0.12')
  })

  it('keeps the last value of an object that no longer makes sense, and takes the rest of its file', async () => {
    await write('a.yaml', service('web') + '---\n' + service('cart', '10.101.0.2'))
    await start()
    const bad = service('cart', '10.101.0.2').replace('port: 80', 'port: 99999')
    await write('a.yaml', service('web', '10.101.0.7') + '---\n' + bad)
    const now = await until(({ problems }) => problems.some(({ level }) => level === 'error'))
    assert.deepEqual(names(now), ['cart', 'web'])
    assert.equal(now.snapshot.services[1]?.clusterIps[0], '10.101.0.7')
    assert.match(now.problems.map(({ where }) => where).join(), /Service shop\/cart: spec\.ports\[0\]\.port/)
  })

  it('shows a changed endpoint within 20 ms on an idle machine, in place and by atomic rename', async () => {
    await write('a.yaml', service('web') + '---\n' + slice('web', '10.1.0.11'))
    await start()
    const times: number[] = []
    for (let round = 0; round < 20; round += 1) {
      const ip = `10.1.0.${20 + round}`
      const text = service('web') + '---\n' + slice('web', ip)
      const began = performance.now()
      if (round % 2 === 0) await write('a.yaml', text)
      else {
        await write('.a.yaml.tmp', text)
        await rename(join(folder, '.a.yaml.tmp'), join(folder, 'a.yaml'))
      }
      await until(({ snapshot }) => snapshot.endpointSlices[0]?.endpoints[0]?.addresses[0] === ip)
      times.push(performance.now() - began)
    }
    // The median, since the machine may be busy with something else for a moment.
    const median = times.sort((a, b) => a - b)[10] ?? Infinity
    assert.ok(median < 20 * slowness(), `median ${median} ms`)
  })

  it('never shows a hole while a file is truncated and written again', async () => {
    const text = service('web') + '---\n' + slice('web', '10.1.0.11')
    await write('a.yaml', text)
    await start()
    for (let round = 0; round < 10; round += 1) {
      await using handle = await open(join(folder, 'a.yaml'), 'w')
      await until(() => true)
      await new Promise(setImmediate)
      await handle.write(service('web') + '---\n')
      await new Promise(setImmediate)
      await handle.write(slice('web', `10.1.0.${30 + round}`))
      await handle.close()
      await until(
        ({ snapshot }) => snapshot.endpointSlices[0]?.endpoints[0]?.addresses[0] === `10.1.0.${30 + round}`
      )
    }
    for (const one of seen) {
      assert.equal(one.snapshot.services.length, 1)
      assert.equal(one.snapshot.endpointSlices.length, 1)
    }
  })

  it('withdraws what was taken out of a file, and a file that was deleted', async () => {
    await write('a.yaml', service('web') + '---\n' + service('cart', '10.101.0.2'))
    await write('b.yaml', service('db', '10.101.0.3'))
    await start()
    await write('a.yaml', service('web'))
    await unlink(join(folder, 'b.yaml'))
    await until((one) => names(one).join() === 'web')
  })

  it('notices new files in new subfolders', async () => {
    await start()
    await mkdir(join(folder, 'new'))
    await write('new/a.yaml', service('web'))
    await until((one) => names(one).join() === 'web')
    await appendFile(join(folder, 'new/a.yaml'), '---\n' + service('cart', '10.101.0.2'))
    await until((one) => names(one).join() === 'cart,web')
  })

  it('that is missing is reported with the fix, awaited, and picked up', async () => {
    const path = join(folder, 'not/yet')
    const first = await start(path)
    assert.equal(first.whole, true, 'without it there are no services, and nothing else waits for it')
    assert.deepEqual(names(first), [])
    assert.match(first.problems[0]?.message ?? '', /does not exist/)
    assert.match(first.problems[0]?.fix ?? '', /create it/)
    assert.equal(first.problems[0]?.level, 'warning')
    assert.equal(first.problems[0]?.ofSource, true)
    await mkdir(path, { recursive: true })
    await writeFile(join(path, 'a.yaml'), service('web'))
    const now = await until((one) => names(one).length > 0)
    assert.equal(now.whole, true)
  })

  it('that is a file is a warning, and is picked up when it becomes a folder', async () => {
    const path = join(folder, 'services')
    await writeFile(path, service('web'))
    const first = await start(path)
    assert.equal(first.whole, true)
    assert.match(first.problems[0]?.message ?? '', /names a file/)
    await unlink(path)
    await mkdir(path)
    await writeFile(join(path, 'a.yaml'), service('web'))
    const now = await until((one) => names(one).length > 0)
    assert.deepEqual(
      now.problems.filter(({ ofSource }) => ofSource),
      []
    )
  })

  it('that is a link to itself, or to nothing, is a warning and is picked up', async () => {
    const path = join(folder, 'services')
    await symlink('services', path)
    const first = await start(path)
    assert.equal(first.whole, true)
    assert.match(first.problems[0]?.message ?? '', /cannot be read/)
    await unlink(path)
    await symlink('there', path)
    await until(({ problems }) => /does not exist/.test(problems[0]?.message ?? ''))
    await mkdir(join(folder, 'there'))
    await writeFile(join(folder, 'there', 'a.yaml'), service('web'))
    source.refresh()
    await until((one) => names(one).length > 0)
  })

  it('that may not be read is a warning, and is picked up when it may', async function () {
    const path = join(folder, 'services')
    await mkdir(path, { mode: 0o700 })
    await writeFile(join(path, 'a.yaml'), service('web'))
    await chmod(path, 0)
    // Root reads everything: for a moment this process is another user.
    const isRoot = process.geteuid?.() === 0
    if (isRoot) {
      await chmod(folder, 0o755)
      process.seteuid?.(65_534)
    }
    try {
      const first = await start(path)
      assert.equal(first.whole, true)
      assert.deepEqual(names(first), [])
      assert.match(first.problems[0]?.message ?? '', /cannot be read/)
      assert.equal(first.problems[0]?.ofSource, true)
    } finally {
      if (isRoot) process.seteuid?.(0)
    }
    await chmod(path, 0o755)
    source.refresh()
    await until((one) => names(one).length > 0)
  })

  it('that vanishes withdraws nothing, and counts again when it is back', async () => {
    const path = join(folder, 'here')
    await mkdir(path)
    await writeFile(join(path, 'a.yaml'), service('web'))
    await start(path)
    await rename(path, join(folder, 'gone'))
    const gone = await until(({ problems }) => problems.some(({ message }) => /does not exist/.test(message)))
    assert.deepEqual(names(gone), ['web'])
    await mkdir(path)
    await writeFile(join(path, 'b.yaml'), service('cart', '10.101.0.2'))
    await until((one) => names(one).join() === 'cart')
  })

  it('follows a mounted ConfigMap when it is swapped', async () => {
    const data = async (version: string, text: string) => {
      await mkdir(join(folder, `..${version}`))
      await writeFile(join(folder, `..${version}`, 'a.yaml'), text)
      await symlink(`..${version}`, join(folder, '..tmp'))
      await rename(join(folder, '..tmp'), join(folder, '..data'))
    }
    await data('1', service('web'))
    await symlink('..data/a.yaml', join(folder, 'a.yaml'))
    assert.deepEqual(names(await start()), ['web'])
    await data('2', service('cart', '10.101.0.2'))
    await until((one) => names(one).join() === 'cart')
  })

  it('reports a file that is too large or not text, and goes on', async () => {
    await write('a.yaml', service('web'))
    await write('b.yaml', '#'.repeat(FILE_BYTES_MAX + 1))
    await writeFile(join(folder, 'c.yaml'), Uint8Array.of(0xff, 0xfe, 0x00))
    const { problems, ...first } = await start()
    assert.deepEqual(names({ problems, ...first }), ['web'])
    assert.match(problems.find(({ file }) => file === 'b.yaml')?.message ?? '', /limit/)
    assert.match(problems.find(({ file }) => file === 'c.yaml')?.message ?? '', /UTF-8/)
  })

  it('reports a link that leads nowhere readable without stopping', async () => {
    await symlink('a.yaml', join(folder, 'a.yaml'))
    await mkdir(join(folder, 'b.yaml'))
    await write('c.yaml', service('web'))
    const first = await start()
    assert.deepEqual(names(first), ['web'])
    assert.deepEqual(told(first.problems), ['a.yaml: warning'])
  })

  it('names what looks like a manifest and cannot count: links to nothing and to folders, pipes', async () => {
    await symlink('/nowhere/there.yaml', join(folder, 'a.yaml'))
    await mkdir(join(folder, 'b'))
    await write('b/b.yaml', service('web'))
    await symlink('b', join(folder, 'current'))
    await symlink('b', join(folder, 'd.json'))
    execFileSync('mkfifo', [join(folder, 'e.yml')])
    // None of these is meant to be one.
    await symlink('/nowhere', join(folder, 'README'))
    await symlink('.', join(folder, '..data'))
    await write('notes.txt', '')
    const first = await start()
    assert.deepEqual(names(first), ['web'])
    assert.deepEqual(told(first.problems), [
      'a.yaml: warning',
      'current: warning',
      'd.json: warning',
      'e.yml: warning'
    ])
    await unlink(join(folder, 'a.yaml'))
    await write('a.yaml', service('cart'))
    const { problems } = await until((one) => names(one).includes('cart'))
    assert.ok(!told(problems).includes('a.yaml: warning'))
  })

  it('says nothing on a second look at the same content', async () => {
    await write('a.yaml', service('web'))
    await start()
    const count = seen.length
    await write('a.yaml', service('web'))
    source.refresh()
    await chmod(join(folder, 'a.yaml'), 0o600)
    await write('z.yaml', service('cart', '10.101.0.2'))
    await until((one) => names(one).length === 2)
    assert.equal(seen.length, count + 1)
  })

  it('is silent after stop', async () => {
    await start()
    await source.stop()
    const count = seen.length
    await write('a.yaml', service('web'))
    source.refresh()
    await new Promise(setImmediate)
    assert.equal(seen.length, count)
  })
})
