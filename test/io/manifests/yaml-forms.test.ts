import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { catalog } from '../../../src/core/catalog/catalog.ts'
import { parseYaml } from '../../../src/io/manifests/parse-yaml.ts'
import { splitDocuments, splitList } from '../../../src/io/manifests/documents.ts'
import { createManifestSource } from '../../../src/io/manifests/manifest-source.ts'
import { readManifestFile } from '../../../src/io/manifests/read-file.ts'
import { readYaml } from './read-yaml.ts'

const value = (text: string) => {
  const parsed = parseYaml(`a: ${text}\n`)
  return parsed.kind === 'object' ? (parsed.object as { a: unknown }).a : parsed.message
}

describe('YAML is read as kubectl reads it', () => {
  const forms: readonly (readonly [string, unknown])[] = [
    ['yes', true],
    ['Yes', true],
    ['on', true],
    ['y', true],
    ['no', false],
    ['OFF', false],
    ['"yes"', 'yes'],
    ['0120', 80],
    ['0o120', 80],
    ['-0o7', -7],
    ['080', 80],
    ['0x50', 80],
    ['0b1010000', 80],
    ['8_0', 80],
    ['80.0', 80],
    ['12:30:45', '12:30:45'],
    ['2024-01-02', '2024-01-02'],
    ['2024-01-02T03:04:05Z', '2024-01-02T03:04:05Z'],
    ['~', null],
    ['1.2.3', '1.2.3'],
    ['10.1.0.11', '10.1.0.11'],
    // A name or a label may look nearly like a number.
    ['e1', 'e1'],
    ['E2', 'E2'],
    ['-e1', '-e1'],
    ['.', '.'],
    ['-.', '-.'],
    ['.e1', '.e1'],
    ['1e999', '1e999'],
    ['0x', '0x'],
    ['0b2', '0b2'],
    ['1e3', 1000],
    ['-.5', -0.5],
    ['0X1f', 31],
    ['0B11', 3],
    ['0O17', 15],
    ['089.5', 89.5],
    ['!!float 5', 5],
    ['!!str 5', '5'],
    ['!!binary aGk=', 'hi'],
    ['.inf', 'malformed YAML: .inf is no number of JSON; write it in quotation marks'],
    ['.NaN', 'malformed YAML: .NaN is no number of JSON; write it in quotation marks']
  ]
  for (const [text, expected] of forms)
    it(`${text} is ${JSON.stringify(expected)}`, () => assert.deepEqual(value(text), expected))

  it('with merge keys, of which own keys win', () => {
    const parsed = parseYaml('base: &b { port: 80, name: x }\na:\n  <<: *b\n  name: http\n')
    assert.deepEqual(parsed.kind === 'object' && parsed.object, {
      base: { port: 80, name: 'x' },
      a: { port: 80, name: 'http' }
    })
  })

  it('with keys as texts, whatever they look like', () => {
    const parsed = parseYaml('on: 1\n80: 2\nyes: 3\n')
    assert.deepEqual(parsed.kind === 'object' && Object.keys(parsed.object as object).sort(), [
      '80',
      'on',
      'yes'
    ])
  })

  it('and a Service that uses them is taken', () => {
    const { items, problems } = readYaml(
      `x-ports: &web { name: http, protocol: TCP }
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec:
  clusterIP: 10.101.0.1
  publishNotReadyAddresses: yes
  ports:
  - <<: *web
    port: 0120
`,
      'a.yaml'
    )
    assert.deepEqual(problems, [])
    const [service] = catalog(items).snapshot.services
    assert.equal(service?.ports[0]?.port, 80)
    assert.equal(service?.ports[0]?.name, 'http')
    assert.equal(service?.publishNotReady, true)
  })

  it('and a name that YAML takes for a boolean is refused with the remedy, as the API refuses it', () => {
    const { items } = readYaml(
      'apiVersion: v1\nkind: Service\nmetadata: { name: yes }\nspec: { clusterIP: None }\n',
      'a.yaml'
    )
    const [problem] = catalog(items).problems
    assert.match(problem?.message ?? '', /metadata\.name is a boolean, not text/)
    assert.match(problem?.fix ?? '', /quotes/)
  })
})

describe('a file is taken apart', () => {
  const texts = (text: string) => splitDocuments(text).map((chunk) => chunk.text.trim())

  it('at lines that begin with "---" or "...", and nowhere else', () => {
    assert.deepEqual(texts('a: 1\n---\nb: 2\n...\n# end\n---\n---\nc: 3'), ['a: 1', '---\nb: 2', '---\nc: 3'])
    assert.deepEqual(texts('a: |\n  ---\n  x\n---- \n'), ['a: |\n  ---\n  x\n----'])
    assert.deepEqual(texts('--- { a: 1 }\n--- # comment\nb: 2\r\n---\r\nc: 3\r\n').length, 3)
  })

  it('with directives and comments before the marker of their document', () => {
    const parsed = splitDocuments('%YAML 1.2\n# of a\n---\na: yes\n').map(({ text }) => parseYaml(text))
    assert.deepEqual(
      parsed.map((each) => each.kind === 'object' && each.object),
      [{ a: 'yes' }]
    )
  })

  it('and a List that kubectl wrote at its items', () => {
    const text = `apiVersion: v1
items:
- apiVersion: v1
  data:
    x: |
      - not an item
  kind: ConfigMap
- kind: Secret
  items:
  - a
kind: List
metadata:
  resourceVersion: ""
`
    const items = splitList({ text, line: 10 })
    assert.deepEqual(
      items?.map((item) => [item.line, parseYaml(item.text)]),
      [
        [
          12,
          {
            kind: 'object',
            line: 0,
            object: { apiVersion: 'v1', data: { x: '- not an item\n' }, kind: 'ConfigMap' }
          }
        ],
        [17, { kind: 'object', line: 0, object: { kind: 'Secret', items: ['a'] } }]
      ]
    )
    assert.equal(items?.[0]?.list, 'apiVersion: v1\nkind: List\nmetadata:\n  resourceVersion: ""\n')
  })

  it('but not a List with anchors, or in flow style, or something else with items', () => {
    for (const text of [
      'kind: List\nitems:\n- &a { kind: A }\n- *a\n',
      'kind: List\nitems: [{ kind: A }]\n',
      'kind: Thing\nitems:\n- a\n',
      'kind: List\nitems:\n'
    ])
      assert.equal(splitList({ text, line: 0 }), undefined, text)
  })

  it('and typed lists give their kind to their items', () => {
    const { items } = readYaml(
      'kind: ServiceList\napiVersion: v1\nitems:\n  - metadata: { name: a }\n    spec: { clusterIP: None }\n  - metadata: { name: b }\n    spec: { clusterIP: None }\n',
      'a.yaml'
    )
    const { snapshot, problems } = catalog(items, { warnUnreachable: false })
    assert.deepEqual(problems, [])
    assert.deepEqual(
      snapshot.services.map(({ name }) => name),
      ['a', 'b']
    )
  })
})

describe('a large folder', () => {
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rhizome-large-'))
  })
  afterEach(() => rm(folder, { recursive: true, force: true }))

  const note = '#'.repeat(1000)
  const document = (n: number) =>
    `apiVersion: v1\nkind: Service\n${note}\nmetadata: { name: s${n} }\nspec: { clusterIP: None }\n`

  it('may have files of more than a MiB, of which only what changed is parsed again', async () => {
    const path = join(folder, 'a.yaml')
    const texts = Array.from({ length: 1500 }, (_, n) => document(n))
    await writeFile(path, texts.join('---\n'))
    const first = await readManifestFile(path, 'a.yaml')
    const documents = first?.kind === 'documents' ? first.documents : assert.fail()
    assert.equal(documents.length, 1500)
    assert.ok(texts.join('---\n').length > 1.5 * 1024 * 1024)
    const known = new Map(documents.map((each) => [each.id, each]))
    await writeFile(path, `${note}\n---\n${texts.with(700, document(9999)).join('---\n')}`)
    const second = await readManifestFile(path, 'a.yaml', known)
    const again = second?.kind === 'documents' ? second.documents : assert.fail()
    const reused = again.filter(({ items }) =>
      items.every(({ reading }) => documents.some((each) => each.items[0]?.reading === reading))
    )
    assert.equal(reused.length, 1498, 'the first has a comment now, and one is another')
    assert.equal(again[3]?.items[0]?.where, 'line 21')
  })

  it('leaves the event loop free between documents', async () => {
    const path = join(folder, 'a.yaml')
    await writeFile(path, Array.from({ length: 400 }, (_, n) => document(n)).join('---\n'))
    let turns = 0
    const count = (): void => {
      turns += 1
      timer = setImmediate(count)
    }
    let timer = setImmediate(count)
    await readManifestFile(path, 'a.yaml')
    clearImmediate(timer)
    assert.ok(turns > 10, `${turns} turns of the event loop`)
  })

  it('passes over kustomization.yaml, and over large objects of other kinds', async () => {
    await writeFile(join(folder, 'kustomization.yaml'), 'resources: [a.yaml]\n')
    await writeFile(join(folder, 'kustomization.yml'), 'resources: [\n')
    await writeFile(join(folder, 'a.yaml'), document(1))
    const data = 'x'.repeat(2 * 1024 * 1024)
    await writeFile(
      join(folder, 'b.yaml'),
      `kind: CustomResourceDefinition\napiVersion: v1\nspec: "${data}"\n`
    )
    await writeFile(join(folder, 'c.yaml'), `kind: Service\napiVersion: v1\nspec: "${data}"\n`)
    const problems: string[] = []
    const source = createManifestSource({
      folder,
      catalogOptions: () => ({ warnUnreachable: false }),
      onSnapshot: (_snapshot, found) =>
        problems.push(...found.map(({ file, message }) => `${file}: ${message}`))
    })
    await source.start()
    await source.stop()
    assert.equal(problems.length, 1)
    assert.match(problems[0] ?? '', /^c\.yaml: the document has \d+ characters, above the limit/)
  })
})
