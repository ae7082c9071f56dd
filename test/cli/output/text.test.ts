// The pure helpers of the CLI: units, tables, cleaning, arguments.
import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import {
  collect as collector,
  parseClusterName,
  parsePrefix,
  parseSeconds
} from '../../../src/cli/meshd/arguments.ts'
import { PLAIN } from '../../../src/cli/output/style.ts'
import { formatTable, wrap } from '../../../src/cli/output/table.ts'
import { clean, cleanDeep, safeJson } from '../../../src/cli/output/text.ts'
import { formatBytes, formatDuration, formatMilliseconds } from '../../../src/cli/output/units.ts'

describe('meshctl text', () => {
  it('writes durations with two units at most', () => {
    const cases: readonly [number, string][] = [
      [-3, '0s'],
      [0.9, '0s'],
      [12, '12s'],
      [60, '1m'],
      [252, '4m12s'],
      [599, '9m59s'],
      [899, '14m'],

      [3600, '1h'],
      [11_520, '3h12m'],
      [86_400, '1d'],
      [190_800, '2d5h'],
      [400 * 86_400, '400d']
    ]
    for (const [seconds, text] of cases) assert.equal(formatDuration(seconds), text)
  })

  it('writes sizes in binary units of at most four digits', () => {
    const cases: readonly [number, string][] = [
      [0, '0 B'],
      [1023, '1023 B'],
      [1024, '1.0 KiB'],
      [1_258_291, '1.2 MiB'],
      [348_160, '340 KiB'],

      [1024 * 1024 - 1, '1.0 MiB'],
      [2 ** 60, '1024 PiB']
    ]
    for (const [bytes, text] of cases) assert.equal(formatBytes(bytes), text)
  })

  it('writes round-trip times with the digits that matter', () => {
    assert.deepEqual([0.04, 0.42, 12.4, 999.4, 1234].map(formatMilliseconds), [
      '0.0ms',
      '0.4ms',
      '12ms',
      '999ms',
      '1.2s'
    ])
  })

  it('reads back every duration it can express', () => {
    const part = fc.integer({ min: 0, max: 999 })
    fc.assert(
      fc.property(part, part, part, part, (d, h, m, s) => {
        const total = d * 86_400 + h * 3600 + m * 60 + s
        if (total > 0) assert.equal(parseSeconds('--expires', `${d}d${h}h${m}m${s}s`), total)
      })
    )
  })

  it('takes no time that is empty, zero, without a unit or out of order', () => {
    for (const text of ['', '0s', '24', '-1h', '1h 30m', '30m1h', '1.5h', '1w', '9999999h']) {
      assert.throws(() => parseSeconds('--expires', text), /^CliError: --expires: /)
    }
  })

  it('takes DNS labels as cluster names', () => {
    for (const name of ['w', 'west', 'eu-1', '1', 'a'.repeat(63)])
      assert.equal(parseClusterName('cluster', name), name)
    for (const name of ['', 'West', 'a.b', '-a', 'a-', 'a_b', 'ä', 'a'.repeat(64), 'all', 'local', 'a\n']) {
      assert.throws(() => parseClusterName('cluster', name), /^CliError: cluster: /)
    }
  })

  it('takes prefixes in canonical form, once each', () => {
    const collect = collector('--pod-cidr', parsePrefix)
    assert.deepEqual(collect('10.2.0.0/16', collect('10.1.0.0/16, FD00::/48', undefined)), [
      '10.1.0.0/16',
      'fd00::/48',
      '10.2.0.0/16'
    ])
    for (const text of [
      '',
      '10.1.0.0/16,',
      '10.1.0.0',
      '010.0.0.0/8',
      '10.1.0.1/16',
      '10.0.0.0/33',
      '1/8',
      '::ffff:10.0.0.0/104'
    ]) {
      assert.throws(() => collect(text, undefined), /^CliError: --pod-cidr: /, text)
    }
  })

  it('leaves nothing that steers a terminal, and plain text alone', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        assert.doesNotMatch(clean(text), /[\p{Cc}\u2028\u2029]|[\u202a-\u202e\u2066-\u2069]/u)
        assert.equal(clean(clean(text)), clean(text))
      })
    )
    assert.equal(clean('web.shop é 日本 🙂'), 'web.shop é 日本 🙂')
    assert.deepEqual(cleanDeep({ 'a\n': ['\u001b', 1, null, { b: true }] }), {
      'a\\x0a': ['\\x1b', 1, null, { b: true }]
    })
  })

  it('writes JSON that reads back the same and is printable', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.string({ unit: 'binary' }), (value, text) => {
        const json = safeJson({ value, text }, 2)
        assert.deepEqual(JSON.parse(json), JSON.parse(JSON.stringify({ value, text })))
        assert.doesNotMatch(json.replaceAll('\n', ''), /\p{Cc}/u)
      })
    )
  })

  it('aligns columns and ends no line with a space', () => {
    const cell = fc.string({ unit: fc.constantFrom('a', 'b', '1', '.', '-'), maxLength: 12 })
    fc.assert(
      fc.property(fc.array(fc.record({ a: cell, b: cell }), { maxLength: 8 }), (rows) => {
        const columns = [
          { title: 'A', value: (row: { a: string }) => row.a },
          { title: 'LONG', value: (row: { b: string }) => row.b }
        ]
        const lines = formatTable(rows, columns, { style: PLAIN, headers: true, width: undefined }).split(
          '\n'
        )
        assert.equal(lines.length, rows.length + 1)
        const at = lines[0]?.indexOf('LONG') ?? -1
        for (const [index, line] of lines.slice(1).entries()) {
          assert.equal(line, line.trimEnd())
          assert.equal(line.slice(at), rows[index]?.b || '-')
        }
      })
    )
  })

  it('wraps text and leaves its spaces where no line ends, after commas, too', () => {
    const fix = 'run `ip address`, and name one, as in 10.0.0.0/8,fd00::/8, or none'
    assert.deepEqual(wrap(fix, Infinity), [fix])
    assert.deepEqual(wrap('a, b,c', 4), ['a,', 'b,c'])
    const word = fc.stringMatching(/^[a-z]{1,6}$/)
    const joined = fc.array(fc.tuple(word, fc.constantFrom(' ', ', ', ',')), { minLength: 1, maxLength: 12 })
    fc.assert(
      fc.property(joined, fc.integer({ min: 8, max: 40 }), (pairs, width) => {
        const text = `${pairs.map(([each, glue]) => each + glue).join('')}end`
        assert.deepEqual(wrap(text, Infinity), [text])
        const lines = wrap(text, width)
        let rest = text
        for (const line of lines) {
          assert.ok(line.length <= width, line)
          assert.ok(rest.trimStart().startsWith(line), `${line} | ${rest}`)
          rest = rest.trimStart().slice(line.length)
        }
        assert.equal(rest, '')
      })
    )
  })

  it('folds columns below their row until it fits the terminal, and loses no letter', () => {
    const word = fc.string({ unit: fc.constantFrom('a', 'b', ',', ' ', 'é'), minLength: 1, maxLength: 60 })
    const texts = fc.array(fc.record({ a: word, b: word, c: word }), { minLength: 1, maxLength: 4 })
    fc.assert(
      fc.property(texts, fc.integer({ min: 20, max: 120 }), (rows, width) => {
        const columns = [
          { title: 'NAME', value: () => 'east' },
          { title: 'A', value: (row: { a: string }) => row.a.trim(), fold: 1 },
          { title: 'B', value: (row: { b: string }) => row.b.trim(), fold: 0 },
          { title: 'C', value: (row: { c: string }) => row.c.trim(), fold: 2 }
        ]
        const shown = formatTable(rows, columns, { style: PLAIN, headers: true, width })
        for (const line of shown.split('\n')) assert.ok(Array.from(line).length <= width, line)
        const letters = (text: string): string =>
          Array.from(text.replaceAll(/[^abé,]/g, ''))
            .sort()
            .join('')
        assert.equal(
          letters(shown.replaceAll(/^NAME.*$/gm, '')),
          letters(rows.map(({ a, b, c }) => `east${a}${b}${c}`).join(''))
        )
      })
    )
  })
})
