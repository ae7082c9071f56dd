// Reads the fields of a body: each method returns a checked value, or throws Malformed with the name of the field.
// Invariant: lists are sorted and have no element twice, keys passed F2, and each count is bounded, so two different
// bodies never mean the same value.
import { prefixToCidr } from '../../model/cidr.ts'
import { isDnsLabel } from '../../model/dns-name.ts'
import { parseClusterName } from '../../model/identity.ts'
import type { ClusterName, Role } from '../../model/values.ts'
import { checkPrefixes } from '../../model/prefixes.ts'
import type { FormRules } from './form-rules.ts'
import {
  compareText,
  keyId,
  type KeyId,
  shortId,
  type ShortId,
  statementId,
  type StatementId
} from './ids.ts'
import { compareRanges, type PrefixRange, rangeOf } from './prefix-range.ts'
import type { PodsAndServices } from './statement.ts'

/** Ids in `keep` and `keepOnly`: the 1,024 statements of a subtree (bounds.ts) and as many admissions. */
export const KEEP_MAX = 2048
const PREFIXES_MAX = 32
const NAMES_MAX = 32
const LABEL_CHARACTERS_MAX = 64
/** Kubernetes node names are DNS subdomains; other hosts may use capitals. */
const NODE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$/
/** "*", or the beginning of a cluster name and "*". */
const NAME_PATTERN = /^(?:[a-z0-9][a-z0-9-]{0,61})?\*$/

/** Thrown by the Reader and caught by `decodeBody`; `message` is the reason. */
export class Malformed extends Error {
  readonly field: string
  readonly rule: 'F1' | 'F2'
  constructor(field: string, reason: string, rule: 'F1' | 'F2' = 'F1') {
    super(reason)
    this.field = field
    this.rule = rule
  }
}

type PrefixMessages = readonly { readonly address: Uint8Array; readonly length: number }[]

/** One Reader reads one body. The rules are a parameter, because tests replace one of them (P10). */
export class Reader {
  readonly #rules: FormRules
  constructor(rules: FormRules) {
    this.#rules = rules
  }

  /** A public key that F2 accepts. */
  key(bytes: Uint8Array, field: string): KeyId {
    const fault = bytes.length === 32 ? this.#rules.F2key(bytes) : 'length'
    if (fault !== undefined) throw new Malformed(field, `the key is refused: ${fault}`, 'F2')
    return keyId(bytes)
  }

  /** Undefined for the empty byte string. */
  optionalKey(bytes: Uint8Array, field: string): KeyId | undefined {
    return bytes.length === 0 ? undefined : this.key(bytes, field)
  }

  /** The id of a statement. */
  id(bytes: Uint8Array, field: string): StatementId {
    if (bytes.length !== 32) throw new Malformed(field, `an id has 32 bytes, not ${bytes.length}`)
    return statementId(bytes)
  }

  /** Undefined for the empty byte string. */
  optionalId(bytes: Uint8Array, field: string): StatementId | undefined {
    return bytes.length === 0 ? undefined : this.id(bytes, field)
  }

  /** First halves of ids, at most KEEP_MAX. */
  shortIds(list: readonly Uint8Array[], field: string): ReadonlySet<ShortId> {
    if (list.length > KEEP_MAX) throw new Malformed(field, `${list.length} ids are more than ${KEEP_MAX}`)
    if (list.some((bytes) => bytes.length !== 16)) throw new Malformed(field, 'each id must have 16 bytes')
    return new Set(this.sorted(list.map(shortId), field, compareText))
  }

  /** A DNS label that no zone reserves. */
  clusterName(text: string, field: string): ClusterName {
    const name = parseClusterName(text)
    if (name.kind === 'invalid') throw new Malformed(field, name.reason)
    return name.clusterName
  }

  /** Cluster names, some of them with a "*" at their end. */
  namePatterns(list: readonly string[], field: string): readonly string[] {
    if (list.length > NAMES_MAX) throw new Malformed(field, `${list.length} names are more than ${NAMES_MAX}`)
    for (const text of list) if (!NAME_PATTERN.test(text)) this.clusterName(text, field)
    return this.sorted(list, field, compareText)
  }

  /** DNS labels: names of namespaces. */
  labels(list: readonly string[], field: string): readonly string[] {
    if (list.length > NAMES_MAX) throw new Malformed(field, `${list.length} names are more than ${NAMES_MAX}`)
    if (!list.every(isDnsLabel)) throw new Malformed(field, 'each name must be a DNS label')
    return this.sorted(list, field, compareText)
  }

  /** Canonical prefixes, whether routable or not: a seat may have 0.0.0.0/0. */
  ranges(list: PrefixMessages, field: string): readonly PrefixRange[] {
    if (list.length > PREFIXES_MAX)
      throw new Malformed(field, `${list.length} prefixes are more than ${PREFIXES_MAX}`)
    const ranges = list.map((prefix) => {
      const cidr = prefixToCidr(prefix)
      if (cidr === undefined) throw new Malformed(field, 'a prefix is malformed or has host bits set')
      return rangeOf(cidr)
    })
    return this.sorted(ranges, field, compareRanges)
  }

  /** Pods and services, which are routable and disjoint. */
  podsAndServices(
    pods: PrefixMessages,
    services: PrefixMessages,
    fields: readonly [string, string]
  ): PodsAndServices {
    const found = { pods: this.ranges(pods, fields[0]), services: this.ranges(services, fields[1]) }
    const fault = checkPrefixes({
      podPrefixes: found.pods.map(({ cidr }) => cidr),
      servicePrefixes: found.services.map(({ cidr }) => cidr)
    })
    if (fault !== undefined) throw new Malformed(fields[0], fault)
    return found
  }

  /** An integer between two bounds, both included. */
  integer(value: number, field: string, [min, max]: readonly [number, number]): number {
    if (value < min || value > max) throw new Malformed(field, `${value} is not between ${min} and ${max}`)
    return value
  }

  /** The name of an agent's host. */
  node(value: string, field: string): string {
    if (!NODE_NAME.test(value)) throw new Malformed(field, 'the node name is malformed')
    return value
  }

  /** A text for people. Control and direction characters could make a terminal show another text. */
  text(value: string, field: string): string {
    if (value.length > LABEL_CHARACTERS_MAX || /[\p{C}\p{Zl}\p{Zp}]/u.test(value))
      throw new Malformed(field, `a text has at most ${LABEL_CHARACTERS_MAX} printable characters`)
    return value
  }

  /** One or two roles. An unknown one is refused, because its rights are unknown. */
  roles(list: readonly string[], field: string): readonly Role[] {
    const roles = list.filter((role) => role === 'gateway' || role === 'node')
    if (roles.length === 0 || roles.length !== list.length)
      throw new Malformed(field, 'an agent is a gateway, a node, or both')
    return this.sorted(roles, field, compareText)
  }

  /** The list itself, when each element comes after the one before it. */
  sorted<T>(list: readonly T[], field: string, compare: (left: T, right: T) => number): readonly T[] {
    const wrong = list.some((item, at) => at > 0 && compare(list[at - 1] ?? item, item) >= 0)
    if (wrong) throw new Malformed(field, 'the list must be sorted and name each element once')
    return list
  }
}
