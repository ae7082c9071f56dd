// The table of test/FAULTS.md: each row names a test that is there.
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'

describe('the table of faults', () => {
  const rows = readFileSync('test/FAULTS.md', 'utf8')
    .split('\n')
    .filter((line) => /^\| *§?\d/.test(line))
    .map((line) => line.split(/(?<!\\)\|/).map((cell) => cell.trim()))

  it('names files of tests that are there', () => {
    assert.ok(rows.length > 60, `${rows.length} rows`)
    for (const [, row = '', files = ''] of rows) {
      const named = files.match(/README\.md|test\/[\w./-]+\.ts/g) ?? []
      assert.ok(named.length > 0, `row ${row} names no test: ${files}`)
      for (const file of named) assert.ok(existsSync(file), `row ${row}: ${file} is not there`)
    }
  })

  it('has every section of the list', () => {
    const sections = new Set(rows.map(([, row = '']) => /\d+/.exec(row)?.[0]))
    for (const section of Array.from({ length: 13 }, (_, at) => String(at + 1)))
      assert.ok(sections.has(section), `no row of section ${section}`)
  })
})
