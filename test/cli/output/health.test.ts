import assert from 'node:assert/strict'
import { stripVTControlCharacters } from 'node:util'
import type { HealthReport } from '../../../src/api/answers.ts'
import type { Context } from '../../../src/cli/meshd/context.ts'
import { faultList, healthNotes } from '../../../src/cli/output/health.ts'
import type { Style } from '../../../src/cli/output/style.ts'

const MESSAGE =
  'large packets are lost on the way to east-gw of cluster east: not even 1280 bytes pass through the tunnel'
const FIX = 'let ICMP "fragmentation needed" pass on the way, or raise the MTU of the links between the hosts'
const report = {
  state: 'error',
  faults: [{ code: 'PATH_MTU', severity: 'error', message: MESSAGE, fix: FIX, since: 'never' }],
  more: {}
} as unknown as HealthReport

const style: Style = { paint: (_, text) => `\u001B[31m${text}\u001B[0m` }
const at = (width: number | undefined) => ({ width, style, headers: true }) as Context
const plain = (text: string) => stripVTControlCharacters(text)

describe('faults on a narrow terminal', () => {
  for (const show of [healthNotes, faultList])
    it(`are folded to its width, with all words and one coloured severity (${show.name})`, () => {
      for (const width of [30, 40, 60, 79, 80, 120, undefined]) {
        const lines = show(report, at(width)).join('\n').split('\n')
        for (const line of lines) assert.ok(plain(line).length <= (width ?? Infinity), `${width}: ${line}`)
        const words = plain(lines.join(' '))
          .replaceAll(/[#\s]+/g, ' ')
          .trim()
        assert.ok(words.includes(`error: ${MESSAGE} fix: ${FIX}`), words)
        assert.equal(lines.join('').split('\u001B[31merror').length, 2)
      }
    })
})
