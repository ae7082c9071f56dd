// The fields that several kinds of objects have, for read-object.ts. What is wrong is recorded in the FieldCheck.
import { isUnroutable } from '../model/unroutable.ts'
import { quote, type FieldCheck, type Fields } from '../model/field-check.ts'
import type { Ip } from '../model/values.ts'

const APP_PROTOCOL_CHARACTERS_MAX = 317

/** The range of a port. */
export const PORT = { min: 1, max: 65_535 }

export function readNames(
  check: FieldCheck,
  object: Fields
): { readonly namespace: string; readonly name: string } {
  const metadata = check.fields(object['metadata'], 'metadata')
  return {
    namespace: check.label(metadata['namespace'], 'metadata.namespace') || 'default',
    name: check.required(check.objectName(metadata['name'], 'metadata.name'), 'metadata.name')
  }
}

export function readPortName(check: FieldCheck, port: Fields, where: string, required: boolean): string {
  const name = check.label(port['name'], `${where}.name`)
  return required ? check.required(name, `${where}.name`) : name
}

/** An IANA service name, or a name with a domain prefix ("kubernetes.io/h2c"); '' when it is not set. */
export function readAppProtocol(check: FieldCheck, port: Fields, where: string): string {
  const text = check.text(port['appProtocol'], `${where}.appProtocol`, APP_PROTOCOL_CHARACTERS_MAX)
  if (/^[a-zA-Z0-9./_-]*$/.test(text)) return text
  check.fail({
    where: `${where}.appProtocol`,
    message: `${where}.appProtocol ${quote(text)} has characters that are not allowed`,
    fix: 'use a name such as http or kubernetes.io/h2c'
  })
  return ''
}

export function readProtocol(check: FieldCheck, port: Fields, where: string) {
  return check.choice(port['protocol'], `${where}.protocol`, ['TCP', 'UDP', 'SCTP'] as const, 'TCP')
}

/**
 * An address that other hosts can reach; an unroutable one is a fault. Kubernetes refuses those in endpoints, too.
 */
export function readAddress(check: FieldCheck, value: unknown, where: string): Ip | undefined {
  const ip = check.ip(value, where)
  if (ip !== undefined && isUnroutable(ip)) {
    check.fail({
      where,
      message: `${where} ${ip} is not an address that another host can reach`,
      fix: 'use an address of the pod or service prefixes'
    })
  }
  return ip
}

/** Records a fault when two ports have the same key. `keysOfEach` has one list of keys for each rule. */
export function refuseTwins(
  check: FieldCheck,
  where: string,
  keysOfEach: readonly (readonly string[])[]
): void {
  for (const keys of keysOfEach) {
    const seen = new Set<string>()
    const twin = keys.find((key) => seen.size === seen.add(key).size)
    if (twin === undefined) continue
    check.fail({ where, message: `two items of ${where} have the ${twin}`, fix: 'change one of the two' })
  }
}
