// Publishes COUNT messages with mqtt.js and prints, as JSON, what the server answered. The session is kept, and a lost
// connection is made anew.
//
// Usage: mqttjs_publish.js HOST PORT 311|5 TOPIC PREFIX COUNT QOS, with NODE_PATH at the part's node_modules.
const mqtt = require('mqtt')

const [host, port, version, topic, prefix, countText, qosText] = process.argv.slice(2)
const count = Number(countText)
const qos = Number(qosText)
const five = version === '5'
const answers = { connects: 0, acknowledged: [], failed: [] }
const WINDOW = 50

const client = mqtt.connect({
  host,
  port: Number(port),
  protocol: 'mqtt',
  protocolVersion: five ? 5 : 4,
  clientId: 'mqttjs-' + prefix,
  clean: false,
  reconnectPeriod: 100,
  properties: five ? { sessionExpiryInterval: 3600 } : undefined
})

let next = 0
function publish () {
  if (next < count) send(next++)
}

function send (number) {
  client.publish(topic, `${prefix}:0:${number} `, { qos }, (error) => {
    if (error) {
      // What is handed over while the client sends its unanswered messages again is given back when that connection is
      // lost, too: it was not taken.
      if (error.message === 'Connection closed') setTimeout(send, 50, number)
      else answers.failed.push(`${number}: ${error}`)
      return
    }
    answers.acknowledged.push({ number })
    if (answers.acknowledged.length < count) {
      publish()
    } else {
      client.end(false, () => {
        console.log(JSON.stringify(answers))
        process.exit(0)
      })
    }
  })
}

client.on('error', (error) => console.error(String(error)))
client.on('connect', (connack) => {
  answers.session_present = connack.sessionPresent
  if (answers.connects++ === 0) for (let first = 0; first < WINDOW; first++) publish()
})
