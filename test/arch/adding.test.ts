// docs/adding.md shows how to add a load balancer. Its code is that of test/contract/toy, which is compiled and passes the contract.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import type { Ip } from '../../src/core/model/values.ts'
import { autoHelp, LOAD_BALANCERS } from '../../src/io/host/load-balancer/registry.ts'
import { hostNames } from '../../src/io/host/ports.ts'
import { counting, loadBalancerContract, PODS, virtual } from '../contract/load-balancer.ts'
import { TOY } from '../contract/toy/kind.ts'
import { ToyKernel } from '../contract/toy/toylb.ts'

const FOLDER = 'src/io/host/load-balancer/toy'
const FIXTURE = 'test/contract/toy'
const DOC = readFileSync('docs/adding.md', 'utf8')

describe('docs/adding.md', () => {
  for (const file of ['kind.ts', 'toy.ts'])
    it(`has ${file} as it is compiled and tested here`, () => {
      const shown = blockAfter(`${FOLDER}/${file}`, 'ts')
      assert.equal(relocated(shown), readFileSync(join(FIXTURE, file), 'utf8'))
    })

  for (const { file, lines } of diffs())
    it(`has a diff of ${file} that fits the file`, () => {
      const before = lines.filter((line) => /^[- ]/.test(line)).map((line) => line.slice(1))
      assert.ok(readFileSync(file, 'utf8').includes(before.join('\n')), before.join('\n'))
    })

  it('adds a kind that the help of `auto` names', () => {
    assert.equal(
      autoHelp([...LOAD_BALANCERS, TOY]),
      'auto = nftables where the kernel has it, else IPVS where the kernel has it, else the toy'
    )
  })
})

describe('the toy load balancer of docs/adding.md', () => {
  const kernel = new ToyKernel()
  const names = hostNames('rhizome0', () => [])
  const counted = counting(kernel.run)

  loadBalancerContract(() => ({
    create: () => TOY.create({ run: counted.run, names, warn: assert.fail }),
    writes: () => counted.writes(),
    ask: async (question) => Array.from({ length: question.count }, () => kernel.connect(question)),
    foreign: async () => JSON.stringify([...kernel.serversOf('another').values()]),
    plantForeign: async () => {
      kernel.serversOf('another').set('TCP 10.97.0.1 80', virtual('10.97.0.1', []))
    },
    tamper: async ({ vip, protocol, port }) => {
      const realServers = [{ ip: PODS[0] as string as Ip, port: 1, weight: 1 }]
      const key = `${protocol} ${vip} ${port}`
      kernel.serversOf(names.nftTable).set(key, virtual(vip, realServers, { protocol, port }))
    }
  }))
})

/** The first block of code of this language after the file's name. */
function blockAfter(file: string, language: string): string {
  const at = DOC.indexOf(`\`${file}\``)
  const [, block] = new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``).exec(DOC.slice(at)) ?? []
  assert.ok(at >= 0 && block !== undefined, `docs/adding.md has no ${language} of ${file}`)
  return block
}

/** The parts of all diffs, which `@@` separates, each with the file that the page names last before it. */
function diffs(): readonly { readonly file: string; readonly lines: readonly string[] }[] {
  const found = [...DOC.matchAll(/```diff\n([^]*?)```/g)].flatMap(({ 1: text = '', index }) => {
    const file = [...DOC.slice(0, index).matchAll(/`(src\/[\w./-]+\.ts)`/g)].at(-1)?.[1] ?? ''
    return text.split('@@\n').map((part) => ({ file, lines: part.trimEnd().split('\n') }))
  })
  assert.ok(found.length >= 6, `only ${found.length} parts of diffs`)
  return found
}

/** The same text with imports that fit the fixture's folder. */
function relocated(text: string): string {
  return text.replace(/from '(\.[^']+)'/g, (_, path: string) => {
    const target = join(FOLDER, path)
    if (dirname(target) === FOLDER) return `from '${path}'`
    return `from '${relative(FIXTURE, target)}'`
  })
}
