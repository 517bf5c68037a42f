// Prints what an EventSource receives, an event a line, until it is closed for good.
import { EventSource } from "eventsource";

const source = new EventSource(process.argv[2]);
const print = ({ type, data, lastEventId }) =>
  console.log(JSON.stringify({ kind: type, data, last_id: lastEventId }));
source.addEventListener("open", () => console.log(JSON.stringify({ kind: "open", data: "", last_id: "" })));
source.addEventListener("message", print);
source.addEventListener("end", print);
source.addEventListener("error", (event) => {
  if (source.readyState === source.CLOSED) {
    console.log(JSON.stringify({ kind: "closed", data: String(event.code), last_id: "" }));
  }
});
