import assert from 'node:assert/strict'
import { stringify } from 'yaml'
import { decodeValue, encodeValue } from '../../src/core/wire/value-codec.ts'
import { catalog } from '../../src/core/catalog/catalog.ts'
import { keyOf } from '../../src/core/model/values.ts'
import { readYaml } from '../io/manifests/read-yaml.ts'
import type { Random } from '../sim/random.ts'
import { budget, fuzz } from './fuzz.ts'

type Tree = string | number | boolean | null | readonly Tree[] | { readonly [key: string]: Tree }

const SERVICE: Tree = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web', namespace: 'shop', labels: { app: 'web' } },
  spec: {
    type: 'ClusterIP',
    clusterIP: '10.102.0.7',
    clusterIPs: ['10.102.0.7', 'fd02::7'],
    sessionAffinity: 'ClientIP',
    sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } },
    ports: [
      { name: 'http', protocol: 'TCP', port: 80, targetPort: 'http', appProtocol: 'http' },
      { name: 'dns', protocol: 'UDP', port: 53 }
    ]
  }
}
const SLICE: Tree = {
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: 'web-abc', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } },
  addressType: 'IPv4',
  ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
  endpoints: [
    {
      addresses: ['10.2.1.1'],
      conditions: { ready: true, serving: true, terminating: false },
      hostname: 'web-0',
      nodeName: 'n1'
    },
    { addresses: ['10.2.1.2'] }
  ]
}
const ENDPOINTS: Tree = {
  apiVersion: 'v1',
  kind: 'Endpoints',
  metadata: { name: 'web', namespace: 'shop' },
  subsets: [
    {
      addresses: [{ ip: '10.2.1.3', nodeName: 'n1' }],
      notReadyAddresses: [{ ip: '10.2.1.4' }],
      ports: [{ name: 'http', port: 8080 }]
    }
  ]
}
const LIST: Tree = { apiVersion: 'v1', kind: 'List', items: [SERVICE, SLICE] }
const OBJECTS = [SERVICE, SLICE, ENDPOINTS, LIST]

describe('hostile manifests', () => {
  it('cost no more than themselves: what is taken every peer can decode, all else is a problem with a fix', async function () {
    const { cases, timeoutMs } = budget(300)
    this.timeout(timeoutMs)
    let taken = 0
    await fuzz('manifests', {
      cases,
      make: (random) => {
        const objects = Array.from({ length: 1 + random.below(3) }, () =>
          random.chance(0.5) ? changeTree(random, random.pick(OBJECTS)) : random.pick(OBJECTS)
        )
        const text = objects
          .map((object) => stringify(object, { aliasDuplicateObjects: false }))
          .join('---\n')
        return random.chance(0.4) ? changeText(random, text) : text
      },
      bytesOf: (text) => [new TextEncoder().encode(text)],
      act: (text) => {
        const { items, problems } = readYaml(text, 'a.yaml')
        const read = catalog(items, { warnUnreachable: false })
        for (const { message, fix } of [...problems, ...read.problems]) {
          assert.ok(message !== '' && fix !== undefined && fix !== '')
          assert.ok(message.length < 1000, 'a message as long as the file')
        }
        for (const value of [...read.snapshot.services, ...read.snapshot.endpointSlices]) {
          taken++
          assert.deepEqual(decodeValue(keyOf(value), encodeValue(value)), { kind: 'value', value })
        }
        assert.equal(Object.hasOwn(Object.prototype, 'polluted'), false)
      }
    })
    if (cases > 100) assert.ok(taken > cases / 4, `only ${taken} values were taken`)
  })
})

/** One place of the tree, at any depth, becomes something else. */
function changeTree(random: Random, tree: Tree): Tree {
  if (typeof tree !== 'object' || tree === null || random.chance(0.15)) return strange(random, tree)
  if (isList(tree)) {
    const at = random.below(tree.length)
    const item = tree[at]
    if (item === undefined) return [strange(random, '')]
    if (random.chance(0.15)) return Array.from({ length: random.pick([2, 101, 1001]) }, () => item)
    return tree.with(at, changeTree(random, item))
  }
  const key = random.pick(Object.keys(tree))
  const { [key]: value = null, ...rest } = tree
  if (random.chance(0.1)) return rest
  if (random.chance(0.1))
    return { ...rest, [random.pick(['__proto__x', 'constructor', 'toString', '', 'a'.repeat(300)])]: value }
  return { ...rest, [key]: changeTree(random, value) }
}

function strange(random: Random, tree: Tree): Tree {
  let deep: Tree = tree
  for (let level = 0; level < 200; level++) deep = random.chance(0.5) ? [deep] : { items: deep, kind: 'List' }
  return random.pick<Tree>([
    null,
    true,
    -1,
    0.5,
    1e308,
    65_536,
    '',
    'None',
    'web\u0000',
    'WEB',
    '$(reboot)',
    '10.0.0.1; drop',
    '010.0.0.1',
    '::ffff:10.0.0.1',
    'fe80::1%eth0',
    'x'.repeat(70_000),
    [],
    {},
    [[[]]],
    deep,
    SERVICE,
    LIST
  ])
}

function changeText(random: Random, text: string): string {
  const at = random.below(text.length)
  const to = at + random.below(80)
  const bit = random.pick([
    '&a [*a, *a]',
    '*a',
    '!!js/function x',
    '!!binary aGk=',
    '? ',
    '<<: ',
    '"',
    '|\n',
    '- '.repeat(2000),
    '{'.repeat(3000),
    '\t',
    '---\n',
    '%TAG ! x',
    '\u2028',
    '__proto__: {polluted: 1}\n'
  ])
  return random.pick([
    () => text.slice(0, at) + bit + text.slice(at),
    () => text.slice(0, at) + text.slice(to),
    () => text.slice(0, to) + text.slice(at),
    () => text.slice(0, at),
    () => text.slice(0, at) + bit
  ])()
}

function isList(tree: object): tree is readonly Tree[] {
  return Array.isArray(tree)
}
