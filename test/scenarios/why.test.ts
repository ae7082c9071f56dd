// `meshctl why` on real hosts: a connection that works, and things that break it, one by one.
import assert from 'node:assert/strict'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { WhyAnswer } from '../../src/api/diagnosis-answers.ts'
import { podAddress } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { inStep, peer, raise, reaches, unite } from './harness.ts'

const NAME = 'web.shop.svc.cluster.east'

describe('meshctl why', function () {
  const { site } = raise('why', ['west', 'east'])
  const west = () => site('west')

  before(async () => {
    await unite(west(), site('east'))
    await reaches(west(), site('east'))
    await eventually(async () => (await peer(west(), 'east'))?.state === 'up')
    await inStep(west())
  })

  const why = async (...args: readonly string[]): Promise<WhyAnswer> => {
    const { stdout, stderr } = await west().ctl('why', ...args, '--json')
    assert.notEqual(stdout, '', stderr)
    return JSON.parse(stdout) as WhyAnswer
  }
  const stopsOf = ({ stops, ways }: WhyAnswer) => [...stops, ...ways.flatMap((way) => way.stops)]
  const endOf = async (...args: readonly string[]) =>
    stopsOf(await why(...args)).find(({ state }) => state === 'fault')

  it('follows a connection that works to its end', async () => {
    const answer = await why(`${NAME}:80`, '--from', podAddress('west', 0))
    assert.deepEqual(
      stopsOf(answer).filter(({ state }) => state === 'fault'),
      []
    )
    assert.equal(answer.verdict, 'works')
    assert.deepEqual(
      stopsOf(answer).map(({ stop }) => stop),
      [
        'name',
        'source',
        'prefix',
        'service',
        'port',
        'endpoints',
        'balancer',
        'tunnel',
        'route',
        'kernel',
        'connection'
      ]
    )
    const { stdout, exitCode } = await west().ctl('why', `${NAME}:80`)
    assert.equal(exitCode, 0)
    assert.match(stdout, /^It works\n/)
  })

  it('is a test of meshctl verify, which tests the tunnel and services of each cluster and leaves nothing', async () => {
    const before = await west().gateway.exec(['nft', '-t', 'list', 'ruleset'])
    const { stdout, exitCode } = await west().ctl('verify', '-s', '20', '--json')
    assert.equal(exitCode, 0, stdout)
    const { results } = JSON.parse(stdout) as {
      results: readonly { test: string; state: string; subject: string }[]
    }
    assert.deepEqual(
      results.map(({ test, state }) => [test, state]),
      results.map(({ test }) => [test, 'ok'])
    )
    assert.deepEqual(results[0]?.test, 'tunnel')
    assert.ok(results.some(({ subject }) => subject === `${NAME}:80`))
    const withoutCounters = (text: string) => text.replaceAll(/packets \d+ bytes \d+/g, '')
    assert.equal(
      withoutCounters((await west().gateway.exec(['nft', '-t', 'list', 'ruleset'])).stdout),
      withoutCounters(before.stdout)
    )
  })

  it('ends with exit code 1 and the name of the stop', async () => {
    const { stdout, exitCode } = await west().ctl('why', 'wbe.shop.svc.cluster.east')
    assert.equal(exitCode, 1)
    assert.match(stdout, /^It ends at the stop name: .*did you mean shop\/web/s)
  })

  it('names a rule of another program that takes packets elsewhere', async () => {
    const exec = (...argv: readonly string[]) => west().gateway.exec(argv)
    await exec('ip', 'route', 'add', 'default', 'dev', 'wan0', 'table', '777')
    await exec('ip', 'rule', 'add', 'pref', '100', 'to', '10.0.0.0/8', 'lookup', '777')
    try {
      // The agent finds the rule within seconds; until then the kernel's own route shows it.
      const ended = await endOf(`${podAddress('east', 0)}:8080`)
      assert.ok(ended?.stop === 'kernel' || ended?.stop === 'host', JSON.stringify(ended))
      assert.match(ended.text, /wan0/)
    } finally {
      await exec('ip', 'rule', 'del', 'pref', '100')
      await exec('ip', 'route', 'flush', 'table', '777')
    }
    await eventually(async () => (await why(`${NAME}:80`)).verdict === 'works')
  })

  it('names a service without a ready endpoint, and a port that nobody serves', async () => {
    const file = join(site('east').manifests, 'why.yaml')
    writeFileSync(
      file,
      `apiVersion: v1
kind: Service
metadata: { name: idle, namespace: shop }
spec: { clusterIP: 10.102.0.77, ports: [{ port: 80 }] }
`
    )
    try {
      await eventually(async () => (await endOf('idle.shop.svc.cluster.east:80'))?.stop === 'endpoints')
      assert.equal((await endOf(`${NAME}:81`))?.stop, 'port')
    } finally {
      rmSync(file)
    }
  })

  it('names a tunnel that does not answer, and the refusal that follows', async () => {
    const { gateway } = site('east')
    await gateway.exec(['nft', '-f', '-'], {
      input:
        'table inet deaf {\n chain in {\n type filter hook input priority -400;\n udp dport 51820 drop\n }\n}\n'
    })
    try {
      await eventually(async () => (await endOf(`${NAME}:80`))?.stop === 'tunnel')
      const ended = await endOf(`${NAME}:80`)
      const verified = await west().ctl('verify', 'east')
      assert.equal(verified.exitCode, 1)
      assert.match(verified.stdout, /east +tunnel +fault/)
      assert.match(ended?.text ?? '', /east.*its tunnel is (down|connecting)/)
      assert.match(ended?.fix ?? '', /UDP/)
    } finally {
      await gateway.exec(['nft', 'delete', 'table', 'inet', 'deaf'])
    }
    await eventually(async () => (await why(`${NAME}:80`)).verdict === 'works')
  })
})
