document.documentElement.classList.add("js");
for (const slider of document.querySelectorAll(".slider input")) {
  const output = slider.parentElement.querySelector("output");
  const show = () => {
    slider.closest("section").style.setProperty("--tuned", slider.value + "%");
    output.textContent = slider.value + " % tuned";
    slider.setAttribute("aria-valuetext", output.textContent);
  };
  slider.addEventListener("input", show);
  show();
}
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
