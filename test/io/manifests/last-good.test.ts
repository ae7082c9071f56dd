import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Problem } from '../../../src/core/catalog/catalog.ts'
import type { Snapshot } from '../../../src/core/model/values.ts'
import { createManifestSource, type ManifestSource } from '../../../src/io/manifests/manifest-source.ts'
import { eventually } from '../../eventually.ts'

const service = (name: string, ip: string, kind = 'Service') => `apiVersion: v1
kind: ${kind}
metadata: { name: ${name}, namespace: shop }
spec:
  clusterIP: ${ip}
  ports:
  - name: http
    port: 80
`
const file = (...documents: string[]) => documents.join('---\n')
const [A, B, C] = [service('a', '10.101.0.1'), service('b', '10.101.0.2'), service('c', '10.101.0.3')]
const A2 = service('a', '10.101.0.11')
const D = service('d', '10.101.0.4')
/** The same object, unreadable in a way of its own. */
const broken = {
  'a quote that is not closed': C.replace('name: http', 'name: "http'),
  'a bracket that is not closed': C.replace('namespace: shop }', 'namespace: shop'),
  'a tab as indentation': C.replace('  clusterIP', '\tclusterIP'),
  'a key twice': C.replace('  ports:', '  clusterIP: 10.101.0.9\n  ports:'),
  'a port out of range': C.replace('port: 80', 'port: 99999'),
  'a port as a text': C.replace('port: 80', 'port: eighty'),
  'an unknown alias': C.replace('10.101.0.3', '*ip'),
  'no clusterIP': C.replace('  clusterIP: 10.101.0.3\n', '')
}

interface Seen {
  readonly snapshot: Snapshot
  readonly problems: readonly Problem[]
}

type Files = Readonly<Record<string, string | undefined>>

interface Case {
  readonly title: string
  readonly before: Files
  readonly after: Files
  /** "a=10.101.0.1" */
  readonly services: readonly string[]
  /** Errors. */
  readonly faults: number
}

const cases: readonly Case[] = [
  ...Object.entries(broken).map(([title, text]): Case => ({
    title: `${title}, beside one service edited, one added and one removed`,
    before: { 'x.yaml': file(A, B, C) },
    after: { 'x.yaml': file(A2, D, text) },
    services: ['a=10.101.0.11', 'c=10.101.0.3', 'd=10.101.0.4'],
    faults: 1
  })),
  ...Object.entries(broken).map(([title, text]): Case => ({
    title: `${title}, in the file from the beginning`,
    before: { 'x.yaml': file(A, B, text) },
    after: { 'x.yaml': file(A2, D, text) },
    services: ['a=10.101.0.11', 'd=10.101.0.4'],
    faults: 1
  })),
  {
    title: 'the first document, and the others moved',
    before: { 'x.yaml': file(C, A, B) },
    after: { 'x.yaml': file(broken['a tab as indentation'], B, A2) },
    services: ['a=10.101.0.11', 'b=10.101.0.2', 'c=10.101.0.3'],
    faults: 1
  },
  {
    title: 'two documents, each with its own last good form',
    before: { 'x.yaml': file(A, B, C) },
    after: { 'x.yaml': file('{\n', broken['a tab as indentation'], B) },
    services: ['a=10.101.0.1', 'b=10.101.0.2', 'c=10.101.0.3'],
    faults: 2
  },
  {
    title: 'a file that ends in the middle',
    before: { 'x.yaml': file(A, C) },
    after: { 'x.yaml': file(A2, C.slice(0, C.indexOf(', namespace'))) },
    services: ['a=10.101.0.11', 'c=10.101.0.3'],
    faults: 1
  },
  {
    title: 'a file that is not UTF-8',
    before: { 'x.yaml': file(A, B) },
    after: { 'x.yaml': '\u0000invalid' },
    services: ['a=10.101.0.1', 'b=10.101.0.2'],
    faults: 1
  },
  {
    title: 'JSON, whole',
    before: { 'x.json': JSON.stringify(json('a', '10.101.0.1')), 'y.yaml': B },
    after: { 'x.json': '{"kind": "Service",', 'y.yaml': service('b', '10.101.0.22') },
    services: ['a=10.101.0.1', 'b=10.101.0.22'],
    faults: 1
  },
  {
    title: 'one item of a List',
    before: { 'x.yaml': list(A, B, C) },
    after: { 'x.yaml': list(A2, broken['a quote that is not closed'], D) },
    services: ['a=10.101.0.11', 'c=10.101.0.3', 'd=10.101.0.4'],
    faults: 1
  },
  {
    title: 'one item of a List that makes no sense',
    before: { 'x.yaml': list(A, C) },
    after: { 'x.yaml': list(A2, broken['a port out of range']) },
    services: ['a=10.101.0.11', 'c=10.101.0.3'],
    faults: 1
  },
  {
    title: 'nothing: a file renamed',
    before: { 'x.yaml': file(A, B) },
    after: { 'x.yaml': undefined, 'y.yaml': file(A2, B) },
    services: ['a=10.101.0.11', 'b=10.101.0.2'],
    faults: 0
  },
  {
    title: 'nothing: a file deleted',
    before: { 'x.yaml': file(A, B), 'y.yaml': C },
    after: { 'x.yaml': undefined },
    services: ['c=10.101.0.3'],
    faults: 0
  },
  {
    title: 'nothing: a broken document removed',
    before: { 'x.yaml': file(A, C) },
    after: { 'x.yaml': A2 },
    services: ['a=10.101.0.11'],
    faults: 0
  },
  {
    title: 'nothing: two files with the same object, of which the first counts',
    before: { 'x.yaml': A, 'y.yaml': B },
    after: { 'x.yaml': A, 'y.yaml': file(A2, B) },
    services: ['a=10.101.0.1', 'b=10.101.0.2'],
    faults: 1
  },
  {
    title: 'nothing: lines that end in CR LF, and byte order marks',
    before: { 'x.yaml': A },
    after: { 'x.yaml': `\uFEFF${file(A2, `\uFEFF${B}`, C).replaceAll('\n', '\r\n')}` },
    services: ['a=10.101.0.11', 'b=10.101.0.2', 'c=10.101.0.3'],
    faults: 0
  }
]

function json(name: string, clusterIP: string) {
  const metadata = { name, namespace: 'shop' }
  return { apiVersion: 'v1', kind: 'Service', metadata, spec: { clusterIP, ports: [{ port: 80 }] } }
}

function list(...items: string[]): string {
  const block = items.map((item) => `- ${item.trimEnd().replaceAll('\n', '\n  ')}\n`.replace('  \t', '\t'))
  return `apiVersion: v1\nitems:\n${block.join('')}kind: List\nmetadata:\n  resourceVersion: ""\n`
}

function settles(check: () => void): Promise<void> {
  return eventually(() => {
    check()
    return true
  })
}

describe('a manifest that is broken', () => {
  let top: string
  const sources: ManifestSource[] = []

  beforeEach(async () => {
    top = await mkdtemp(join(tmpdir(), 'rhizome-last-good-'))
  })

  afterEach(async () => {
    await Promise.all(sources.splice(0).map((source) => source.stop()))
    await rm(top, { recursive: true, force: true })
  })

  async function put(folder: string, files: Files): Promise<void> {
    await mkdir(folder, { recursive: true })
    for (const [name, text] of Object.entries(files)) {
      const path = join(folder, name)
      if (text === undefined) await unlink(path)
      else if (text.startsWith('\u0000')) await writeFile(path, Uint8Array.of(0xff, 0xfe))
      else {
        // As an editor does it: there is no moment with half of it.
        await writeFile(join(folder, `.${name}`), text)
        await rename(join(folder, `.${name}`), path)
      }
    }
  }

  async function start(
    folder: string,
    memory: string
  ): Promise<{ latest: () => Seen; source: ManifestSource }> {
    let seen: Seen | undefined
    const source = createManifestSource({
      folder,
      memory,
      catalogOptions: () => ({ warnUnreachable: false }),
      onSnapshot: (snapshot, problems) => (seen = { snapshot, problems })
    })
    sources.push(source)
    await source.start()
    return { latest: () => seen ?? assert.fail('no snapshot'), source }
  }

  const shown = ({ snapshot, problems }: Seen) => ({
    services: snapshot.services.map(({ name, clusterIps }) => `${name}=${clusterIps.join()}`),
    faults: problems.filter(({ level }) => level === 'error').length
  })

  for (const { title, before, after, services, faults } of cases) {
    it(`counts alone by its last good form, with and without a restart: ${title}`, async () => {
      const [kept, stopped] = [join(top, 'kept'), join(top, 'stopped')]
      await put(kept, before)
      await put(stopped, before)
      const running = await start(kept, join(top, 'memory-1'))
      await (await start(stopped, join(top, 'memory-2'))).source.stop()
      await put(kept, after)
      await put(stopped, after)
      running.source.refresh()
      await settles(() => assert.deepEqual(shown(running.latest()), { services, faults }))
      const restarted = await start(stopped, join(top, 'memory-2'))
      await settles(() => assert.deepEqual(shown(restarted.latest()), { services, faults }))
      await restarted.source.stop()
      const again = await start(stopped, join(top, 'memory-2'))
      await settles(() => assert.deepEqual(shown(again.latest()), { services, faults }))
    })
  }

  it('is a folder that is gone: what it had counts on, after a restart too', async () => {
    const [folder, memory] = [join(top, 'folder'), join(top, 'memory')]
    await put(folder, { 'x.yaml': file(A, B) })
    await (await start(folder, memory)).source.stop()
    await rename(folder, join(top, 'elsewhere'))
    const { latest } = await start(folder, memory)
    assert.deepEqual(shown(latest()).services, ['a=10.101.0.1', 'b=10.101.0.2'])
    assert.match(latest().problems[0]?.message ?? '', /does not exist/)
    await rename(join(top, 'elsewhere'), folder)
    await settles(() => assert.deepEqual(latest().problems, []))
  })

  it('in a mounted ConfigMap counts by its last good form, after a restart too', async () => {
    const [folder, memory] = [join(top, 'folder'), join(top, 'memory')]
    await mkdir(folder)
    const mount = async (version: string, text: string) => {
      await put(join(folder, `..${version}`), { 'x.yaml': text })
      await symlink(`..${version}`, join(folder, '..tmp'))
      await rename(join(folder, '..tmp'), join(folder, '..data'))
    }
    await mount('1', file(A, C))
    await symlink('..data/x.yaml', join(folder, 'x.yaml'))
    const first = await start(folder, memory)
    await mount('2', file(A2, broken['a tab as indentation']))
    const wanted = { services: ['a=10.101.0.11', 'c=10.101.0.3'], faults: 1 }
    await settles(() => assert.deepEqual(shown(first.latest()), wanted))
    await first.source.stop()
    assert.deepEqual(shown((await start(folder, memory)).latest()), wanted)
  })

  it('is not known where the memory was damaged, and nothing else suffers', async () => {
    const [folder, memory] = [join(top, 'folder'), join(top, 'memory')]
    await put(folder, { 'x.yaml': file(A, C) })
    await (await start(folder, memory)).source.stop()
    await put(folder, { 'x.yaml': file(A2, broken['a tab as indentation']) })
    for (const name of await readdir(memory)) await writeFile(join(memory, name), 'nonsense\n{"version":1}')
    const { latest } = await start(folder, memory)
    assert.deepEqual(shown(latest()), { services: ['a=10.101.0.11'], faults: 1 })
  })

  it('is said not to be kept where the state directory is gone, until it is back', async () => {
    const [folder, memory] = [join(top, 'folder'), join(top, 'state', 'manifests')]
    await put(folder, { 'x.yaml': A })
    const { latest, source } = await start(folder, memory)
    assert.deepEqual(shown(latest()).services, ['a=10.101.0.1'])
    assert.match(latest().problems[0]?.message ?? '', /cannot save the last good content/)
    await mkdir(join(top, 'state'))
    source.refresh()
    await settles(() => assert.deepEqual(latest().problems, []))
    assert.equal((await readdir(memory)).length, 1)
  })

  it('leaves nothing of a Secret, or of any other kind, in the state directory', async () => {
    const [folder, memory] = [join(top, 'folder'), join(top, 'memory')]
    const secret = 'apiVersion: v1\nkind: Secret\nmetadata: { name: s }\nstringData: { password: hunter2 }\n'
    await put(folder, { 'x.yaml': file(A, secret), 'y.yaml': secret })
    await start(folder, memory)
    const kept = await readdir(memory)
    assert.equal(kept.length, 1)
    assert.doesNotMatch(await readFile(join(memory, kept[0] ?? ''), 'utf8'), /hunter2/)
  })
})
