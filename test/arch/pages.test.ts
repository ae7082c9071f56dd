// The pages (*.md) name only files that are there, so that a reader who follows a link or a path finds it. They also
// name each actor (agent, neighbour, program, user): a reader cannot tell who "nobody" or "whoever" is.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** Folders with pages, beside those at the root. */
const FOLDERS = ['docs', 'deploy', 'test']
/** The changelog names files as they were in each version. */
const EXCLUDED = new Set(['CHANGELOG.md'])
/** Files that the examples of docs/adding.md tell the reader to make. */
const EXAMPLES = new Set([
  'src/io/host/load-balancer/toy/kind.ts',
  'src/io/host/load-balancer/toy/toy.ts',
  'src/app/admin/routes/uptime.ts',
  'src/cli/commands/uptime.ts'
])

/** "[text](target)" */
const LINK = /\]\(([^)\s]+)\)/g
/** A path from the root of the tree, as in "src/core/host/plan.ts" and "src/io/host". */
const PATH = /(?<![\w./-])(?:src|test|build|proto)\/[\w./-]*\w/g
/** Words that do not say which agent, program or user is meant. */
const UNNAMED = /\b(whoever|nobody|somebody)\b/gi
/** The heading of a released version in the changelog. The text of released versions stays as it is. */
const RELEASED = /^## (?!Unreleased).*/m
/** A source file in a code span, with or without its folder: "`plan.ts`" and "`store/rows.ts`". */
const NAME = /`([\w./-]+\.(?:ts|proto))`/g

describe('the pages', () => {
  const all = [
    ...readdirSync('.'),
    ...FOLDERS.flatMap((folder) =>
      readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((file) => join(folder, file))
    )
  ].filter((file) => file.endsWith('.md'))
  const pages = all.filter((file) => !EXCLUDED.has(file))
  const sources = ['src', 'test', 'proto', 'build']
    .flatMap((folder) =>
      readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((file) => join(folder, file))
    )
    .map((file) => `/${file}`)

  it('are found', () => {
    assert.ok(pages.length > 60, `only ${pages.length} pages`)
    assert.ok(pages.includes('ARCHITECTURE.md') && pages.includes(join('docs', 'replication.md')))
  })

  it('have relative links to files that are there', () => {
    const missing = mentions(pages, LINK)
      .filter(({ text }) => !/^(#|[a-z]+:)/.test(text))
      .filter(({ page, text }) => !existsSync(join(dirname(page), text.replace(/#.*/, ''))))
    assert.deepEqual(missing.map(sentence), [])
  })

  it('have paths from the root to files and folders that are there', () => {
    const missing = mentions(pages, PATH).filter(({ text }) => !EXAMPLES.has(text) && !existsSync(text))
    assert.deepEqual(missing.map(sentence), [])
  })

  it('name source files that are somewhere in the tree', () => {
    const missing = mentions(pages, NAME).filter(
      ({ text }) => !EXAMPLES.has(text) && !sources.some((file) => file.endsWith(`/${text}`))
    )
    assert.deepEqual(missing.map(sentence), [])
  })

  it('name who acts, and say nobody, somebody and whoever nowhere', () => {
    const unnamed = mentions(all, UNNAMED)
    assert.deepEqual(
      unnamed.map(
        ({ page, line, text }) => `${page}, line ${line}: ${text} (name the agent, program or user)`
      ),
      []
    )
  })
})

interface Mention {
  readonly page: string
  readonly line: number
  readonly text: string
}

/** What `pattern` finds in the pages: its first group, or the whole match where it has none. */
function mentions(pages: readonly string[], pattern: RegExp): readonly Mention[] {
  return pages.flatMap((page) =>
    textOf(page)
      .split('\n')
      .flatMap((line, index) =>
        [...line.matchAll(pattern)].map((match) => ({ page, line: index + 1, text: match[1] ?? match[0] }))
      )
  )
}

/** The text of a page; of the changelog only what is not released yet. */
function textOf(page: string): string {
  const text = readFileSync(page, 'utf8')
  return page === 'CHANGELOG.md' ? (text.split(RELEASED, 1)[0] ?? '') : text
}

function sentence({ page, line, text }: Mention): string {
  return `${page}, line ${line}: ${text} is not there`
}
