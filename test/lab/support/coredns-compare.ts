// Two DNS servers asked the same questions: whole answers compared, and every way in which they may differ named.
import assert from 'node:assert/strict'

import type { Packet, RecordType } from '@dnsquery/dns-packet'

import { askCoredns } from './coredns.ts'

/** A whole answer: names in lower case, records of a section in one order. Without serial (each server's own) and OPT (the connection's). */
export interface Said {
  readonly rcode: string
  readonly authoritative: boolean
  readonly answers: readonly string[]
  readonly authorities: readonly string[]
  readonly additionals: readonly string[]
}

export type Question = readonly [name: string, type: RecordType]

export interface Asked {
  /** Lower case. */
  readonly name: string
  readonly type: RecordType
  readonly coredns: Said
  readonly own: Said
}

/** How the two may differ. A difference that no row allows fails the comparison, and so does a row that never occurs. */
export interface Difference {
  readonly what: string
  readonly allows: (asked: Asked) => boolean
}

/** Ports on loopback. Prints how many answers are equal. Errors: AssertionError. */
export async function assertSameAnswers(
  ports: { readonly coredns: number; readonly own: number },
  questions: readonly Question[],
  differences: readonly Difference[]
): Promise<void> {
  const seen = new Map(differences.map(({ what }) => [what, 0]))
  const unknown: Asked[] = []
  let agreed = 0
  const compare = async ([name, type]: Question): Promise<void> => {
    const [theirs, ours] = await Promise.all([
      askCoredns(ports.coredns, name, type),
      askCoredns(ports.own, name, type)
    ])
    const asked = { name: name.toLowerCase(), type, coredns: said(theirs), own: said(ours) }
    const known = differences.find(({ allows }) => allows(asked))
    if (same(asked.coredns, asked.own)) agreed++
    else if (known === undefined) unknown.push(asked)
    else seen.set(known.what, (seen.get(known.what) ?? 0) + 1)
  }
  for (let start = 0; start < questions.length; start += 16)
    await Promise.all(questions.slice(start, start + 16).map(compare))
  console.log(`      ${questions.length} questions, ${agreed} answers equal; the others by difference:`)
  for (const [what, count] of seen) console.log(`      ${String(count).padStart(5)} ${what}`)
  assert.deepEqual(unknown.slice(0, 5), [], `${unknown.length} differences that nobody listed`)
  const unseen = [...seen].filter(([, count]) => count === 0).map(([what]) => what)
  assert.deepEqual(unseen, [], 'differences that no longer occur: take them off the list')
}

export function each(names: readonly string[], types: readonly RecordType[]): readonly Question[] {
  return names.flatMap((name) => types.map((type): Question => [name, type]))
}

export function said(packet: Packet): Said {
  const { answers = [], authorities = [], additionals = [] } = packet
  const text = (record: (typeof answers)[number]): string => {
    if (record.type === 'OPT') return ''
    const data = record.type === 'SOA' ? { ...record.data, serial: 0 } : record.data
    const shown = JSON.stringify(record.type === 'TXT' ? [record.data].flat().map(String) : data)
    return `${record.name.toLowerCase()} ${record.ttl ?? 0} ${record.type} ${shown.toLowerCase()}`
  }
  const texts = (records: typeof answers): readonly string[] =>
    records
      .map(text)
      .filter((line) => line !== '')
      .sort()
  return {
    rcode: 'rcode' in packet ? packet.rcode : 'NOERROR',
    authoritative: packet.flag_aa ?? false,
    answers: texts(answers),
    authorities: texts(authorities),
    additionals: texts(additionals)
  }
}

export function same(left: unknown, right: unknown): boolean {
  return JSON.stringify(left) === JSON.stringify(right)
}

export function isNxdomain({ rcode, answers }: Said): boolean {
  return rcode === 'NXDOMAIN' && answers.length === 0
}

export function isNodata({ rcode, answers, authorities }: Said): boolean {
  return rcode === 'NOERROR' && answers.length === 0 && authorities.length === 1
}
