// The source as the rules see it: its files, their imports and their exports. Read with expressions instead of a parser, since prettier
// has brought every file into one form.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'

export interface Import {
  readonly file: string
  /** A path from the root of the tree ("src/core/model/cidr.ts"), or the name of a package. */
  readonly target: string
  /** `import type …`. An `import { type A }` still loads the file. */
  readonly typeOnly: boolean
  /** The names as the target exports them; undefined: all of them (`* as`, `export *`, a dynamic import). */
  readonly names: readonly string[] | undefined
  /** `export … from`: who imports the file gets these names. */
  readonly passesOn: boolean
}

/** Every TypeScript file below `folder`, as a path from the root of the tree. */
export function filesBelow(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => join(folder, file))
    .sort()
}

const STATEMENT =
  /^(import|export)\s+(type\s+)?(?:([\w*{}\s,]*?)\sfrom\s+)?'([^']+)'|import\(\s*'([^']+)'\s*\)/gm

export function importsOf(file: string): readonly Import[] {
  const text = readFileSync(file, 'utf8')
  return [...text.matchAll(STATEMENT)].map((match) => {
    const [, keyword, type, names, from, dynamic] = match
    const name = from ?? dynamic ?? ''
    return {
      file,
      target: name.startsWith('.') ? normalize(join(dirname(file), name)) : name,
      typeOnly: type !== undefined,
      names: dynamic === undefined ? namesIn(names ?? '{}') : undefined,
      passesOn: keyword === 'export'
    }
  })
}

/** The names that a file exports by declaring them. What it passes on from other files does not count. */
export function exportsOf(file: string): readonly string[] {
  const text = readFileSync(file, 'utf8')
  const declared =
    /^export (?:declare )?(?:abstract )?(?:async )?(?:function\*?|class|const|let|interface|type|enum) (\w+)/gm
  const listed = /^export (?:type )?\{([^}]*)\}(?! from)/gm
  return [
    ...[...text.matchAll(declared)].map(([, name = '']) => name),
    ...[...text.matchAll(listed)].flatMap(([, names = '']) =>
      split(names).map((name) => name.split(' as ').at(-1) ?? name)
    )
  ]
}

function namesIn(clause: string): readonly string[] | undefined {
  if (clause.includes('*')) return undefined
  return split(/\{([^}]*)\}/.exec(clause)?.[1] ?? '').map(
    (name) => name.replace(/^type /, '').split(' as ')[0] ?? name
  )
}

function split(list: string): readonly string[] {
  return list
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '')
}
