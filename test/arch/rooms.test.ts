// The order of the rooms of core, import circles, and exports that no other file imports.
import assert from 'node:assert/strict'
import { exportsOf, filesBelow, importsOf } from './source.ts'

/** A room imports rooms of lower floors only. Rooms of one floor do not import each other. */
const FLOORS: readonly Readonly<Record<string, string>>[] = [
  { model: 'the vocabulary: values, addresses, identities. It knows nothing of what is done with them' },
  {
    wire: 'the bytes that agents exchange. A decoder knows the values that it makes, and nothing of who sent them',
    kube: 'the Kubernetes API as a port. It serves agents and meshctl alike, so it knows nothing of a mesh'
  },
  {
    catalog: 'Kubernetes objects to values. A source needs neither peers nor certificates',
    trust:
      'certificates and who may announce what. Trust is judged before replication takes anything of an origin'
  },
  {
    view: 'what the mesh is: records cut to certificates. It is built of records in any order, and not of the protocol that brought them',
    replication:
      'signed states from agent to agent. The protocol carries records without a look at what they mean for the mesh'
  },
  {
    host: 'what a host should be, of the view. It knows no DNS, so that routes work while names do not',
    mcs: 'what the Multi-Cluster Services API of a cluster shows, of the view: objects and conditions, and no way to send them',
    dns: 'names, of the view. It knows no host, so that names are the same on each of them'
  },
  {
    coredns: 'what CoreDNS is told: names as Kubernetes objects and Corefiles',
    why: 'why a connection passes or ends, of names, view and host. It decides nothing, so nothing imports it in core'
  }
]

/** Imports that break the order today, as "file imports target". Each is to be mended, not to be kept. */
const EXCEPTIONS: readonly string[] = []

/** Exports that no other file imports, as "file: name", each with its reason. */
const UNUSED: Readonly<Record<string, string>> = {}

const ROOT_IMPORTS = ['src', 'test', 'build'].flatMap(filesBelow).flatMap(importsOf)
const IMPORTS = ROOT_IMPORTS.filter(
  ({ file, target }) => file.startsWith('src/') && target.startsWith('src/')
)

describe('the rooms of core', () => {
  const floors = new Map(FLOORS.flatMap((rooms, floor) => Object.keys(rooms).map((room) => [room, floor])))

  it('are the ones of this list, and every file lies in one of them', () => {
    const rooms = new Set(filesBelow('src/core').map((file) => file.split('/')[2] ?? ''))
    assert.deepEqual([...rooms].sort(), [...floors.keys()].sort())
  })

  for (const rooms of FLOORS)
    for (const [room, why] of Object.entries(rooms))
      it(`${room} imports lower rooms only: ${why}`, () => {
        const bad = IMPORTS.filter(({ file }) => roomOf(file) === room)
          .filter(
            ({ target }) => roomOf(target) !== room && !(floorOf(target) < floorOf(`src/core/${room}/`))
          )
          .map(({ file, target }) => `${file} imports ${target}`)
        assert.deepEqual(
          bad.filter((line) => !EXCEPTIONS.includes(line)),
          [],
          why
        )
      })

  it('have no exception that is mended already', () => {
    const lines = new Set(IMPORTS.map(({ file, target }) => `${file} imports ${target}`))
    assert.deepEqual(
      EXCEPTIONS.filter((line) => !lines.has(line)),
      []
    )
  })

  function floorOf(path: string): number {
    return floors.get(roomOf(path) ?? '') ?? Number.POSITIVE_INFINITY
  }
})

describe('imports', () => {
  it('make no circle, not even one of types: a file in a circle cannot be read, or moved, without the others', () => {
    assert.deepEqual(circles(), [])
  })

  it('use each export: one that no other file imports is private, or dead', () => {
    const used = usedExports()
    const unused = filesBelow('src').flatMap((file) =>
      exportsOf(file)
        .map((name) => `${file}: ${name}`)
        .filter((line) => !used.has(line))
    )
    assert.deepEqual(
      unused.filter((line) => UNUSED[line] === undefined),
      [],
      'make it private to its file, or delete it'
    )
    assert.deepEqual(
      Object.keys(UNUSED).filter((line) => !unused.includes(line)),
      [],
      'it is imported, or gone: delete its row'
    )
  })
})

function roomOf(path: string): string | undefined {
  return /^src\/core\/([\w-]+)\//.exec(path)?.[1]
}

/** Every set of files of which each imports each other one, directly or through others (Tarjan, 1972). */
function circles(): readonly (readonly string[])[] {
  const targets = Map.groupBy(IMPORTS, ({ file }) => file)
  const numbers = new Map<string, number>()
  const lowest = new Map<string, number>()
  const open: string[] = []
  const found: string[][] = []
  for (const file of targets.keys()) if (!numbers.has(file)) visit(file)
  return found

  function visit(file: string): void {
    numbers.set(file, numbers.size)
    lowest.set(file, numbers.size - 1)
    open.push(file)
    for (const { target } of targets.get(file) ?? []) {
      if (!numbers.has(target)) visit(target)
      // The file itself counts as a circle of one: it imports itself.
      if (open.includes(target)) lowest.set(file, Math.min(at(lowest, file), at(lowest, target)))
    }
    if (at(lowest, file) !== at(numbers, file)) return
    const members = open.splice(open.indexOf(file))
    if (members.length > 1) found.push(members.sort())
  }

  function at(map: ReadonlyMap<string, number>, file: string): number {
    return map.get(file) ?? Number.POSITIVE_INFINITY
  }
}

/** "file: name" of every export that another file imports, through `export … from` as well. */
function usedExports(): ReadonlySet<string> {
  const passedOn = Map.groupBy(
    IMPORTS.filter(({ passesOn }) => passesOn),
    ({ file }) => file
  )
  const used = new Set<string>()
  for (const { target, names, passesOn } of ROOT_IMPORTS) if (!passesOn) use(target, names)
  return used

  function use(file: string, names: readonly string[] | undefined): void {
    if (!file.startsWith('src/') || !file.endsWith('.ts')) return
    for (const name of names ?? exportsOf(file)) used.add(`${file}: ${name}`)
    for (const { target, names: passed } of passedOn.get(file) ?? [])
      use(target, passed === undefined ? names : passed.filter((name) => names?.includes(name) ?? true))
  }
}
